import * as vscode from 'vscode';
import { MethodTargets, type TargetInfo, type TargetsParams, type TargetsResult } from './protocol';
import type { Server } from './server';

/** fileName is the name of the files that have launch targets. */
export const fileName = '.sightline.json';

/** TargetArguments are those of the server's command that records a launch target. */
export interface TargetArguments { name: string; uri?: string }

interface Row extends vscode.QuickPickItem { target?: TargetInfo }

/**
 * chooseTarget lets a person choose a launch target. Where there is none the file to write one into is
 * offered, and made.
 */
export async function chooseTarget(server: Server): Promise<TargetArguments | undefined> {
  const open: vscode.QuickInputButton = { iconPath: new vscode.ThemeIcon('go-to-file'), tooltip: 'Open the file that says so' };
  const active = vscode.window.activeTextEditor?.document.uri;
  const { targets, problem } = await server.request<TargetsResult>(MethodTargets, (active?.scheme === 'file' ? { uri: active.toString() } : {}) satisfies TargetsParams);
  if (problem) void vscode.window.showWarningMessage(problem);
  const items: Row[] = targets.map((target) => ({ label: `$(rocket) ${target.name}`, description: target.text, detail: target.detail, buttons: [open], target }));
  items.push({ label: '', kind: vscode.QuickPickItemKind.Separator }, { label: `$(edit) ${targets.length > 0 ? 'Edit' : 'Write'} ${fileName}…`, alwaysShow: true });
  const pick = vscode.window.createQuickPick<Row>();
  pick.title = 'Record a launch target';
  pick.placeholder = targets.length > 0 ? 'Name, command or file' : `There is no launch target yet: ${fileName} gives commands a name`;
  pick.matchOnDescription = pick.matchOnDetail = true;
  pick.items = items;
  pick.onDidTriggerItemButton(({ item }) => {
    const at = item.target?.location;
    if (at) void vscode.commands.executeCommand('sightline.reveal', at);
    pick.hide();
  });
  const chosen = await new Promise<Row | undefined>((resolve) => {
    pick.onDidAccept(() => { resolve(pick.activeItems[0]); pick.hide(); });
    pick.onDidHide(() => resolve(undefined));
    pick.show();
  });
  pick.dispose();
  if (!chosen) return undefined;
  if (!chosen.target) {
    await vscode.commands.executeCommand('sightline.createTargets');
    return undefined;
  }
  return { name: chosen.target.name, uri: chosen.target.location.uri };
}
