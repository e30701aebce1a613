-- The plugin's version: servers of another one are named, see server.lua.
return '0.1.0'
