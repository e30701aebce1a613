package view

// Viewer is the profile of the stack viewer's benchmarks, for tests outside the package.
var Viewer = viewer
