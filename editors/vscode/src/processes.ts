import * as vscode from 'vscode';
import { MethodProcesses, type ProcessInfo } from './protocol';
import { messageOf, type Server } from './server';

interface Row extends vscode.QuickPickItem { process: ProcessInfo }

/**
 * chooseProcess lets a person choose a running process to record; with a title, to do something else with,
 * for which it need not be one that can be recorded.
 */
export async function chooseProcess(server: Server, title = ''): Promise<ProcessInfo | undefined> {
  const pick = vscode.window.createQuickPick<Row>();
  const again: vscode.QuickInputButton = { iconPath: new vscode.ThemeIcon('refresh'), tooltip: 'Look again' };
  pick.title = title || 'Attach to a process';
  pick.placeholder = 'Name, pid or command line';
  pick.matchOnDescription = pick.matchOnDetail = true;
  pick.buttons = [again];
  const load = async (): Promise<void> => {
    pick.busy = true;
    try {
      const all = await server.request<ProcessInfo[]>(MethodProcesses);
      pick.items = all.map((p) => ({
        label: `${p.refused && !title ? '$(circle-slash) ' : ''}${p.name}`,
        description: `${p.pid} · ${p.cpu} CPU · ${p.memory} · ${p.user}${p.go ? ' · Go' : ''}`,
        detail: p.refused && !title ? `${p.refused}: ${p.command}` : p.command,
        process: p,
      }));
    } catch (err) {
      pick.hide();
      void vscode.window.showErrorMessage(messageOf(err));
    } finally {
      pick.busy = false;
    }
  };
  pick.onDidTriggerButton(() => void load());
  const chosen = new Promise<ProcessInfo | undefined>((resolve) => {
    let done: ProcessInfo | undefined;
    pick.onDidAccept(() => {
      const p = pick.activeItems[0]?.process;
      if (!p) return;
      if (p.refused && !title) {
        pick.title = `${p.name} (${p.pid}) cannot be recorded: ${p.refused}`;
        return;
      }
      done = p;
      pick.hide();
    });
    pick.onDidHide(() => resolve(done));
  });
  pick.show();
  void load();
  const p = await chosen;
  pick.dispose();
  return p;
}
