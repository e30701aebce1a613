import * as vscode from 'vscode';

/** section is the name that settings are kept under, on both sides. */
export const section = 'sightline';

/** setting is the value of one of our settings. */
export function setting<T>(key: string, fallback: T): T {
  return vscode.workspace.getConfiguration(section).get<T>(key) ?? fallback;
}

/** own begin the settings that concern the extension alone; the server would call them unknown. */
const own = ['decorations', 'server', 'trace'];

/**
 * serverSettings is what the server is told of a configuration. Where the extension draws the costs
 * itself, the server sends no hints, so that no number shows twice.
 */
export function serverSettings(all: unknown, drawn: boolean): Record<string, unknown> {
  const settings: Record<string, unknown> = {};
  for (const [key, value] of Object.entries((all ?? {}) as Record<string, unknown>)) {
    if (!own.includes(key)) settings[key] = value;
  }
  if (drawn) settings.hints = { ...(settings.hints as object | undefined), enable: false };
  return settings;
}

/** decorationsOn says whether the extension draws the costs. */
export function decorationsOn(): boolean {
  return setting('decorations.enable', true);
}

/** toggle turns a boolean setting around where it is set, else for the user. */
export async function toggle(key: string): Promise<boolean> {
  const config = vscode.workspace.getConfiguration(section);
  const at = config.inspect<boolean>(key);
  const target = at?.workspaceFolderValue !== undefined ? vscode.ConfigurationTarget.WorkspaceFolder
    : at?.workspaceValue !== undefined ? vscode.ConfigurationTarget.Workspace : vscode.ConfigurationTarget.Global;
  const next = !config.get<boolean>(key);
  await config.update(key, next, target);
  return next;
}
