import { randomBytes } from 'node:crypto';
import * as vscode from 'vscode';
import { MethodDoctor, type DoctorResult, type EngineInfo } from './protocol';
import { messageOf, type Server } from './server';

export function escapeHTML(s: string): string {
  return s.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** doctorPage is the doctor's report as a page. It has no script but the one that copies commands. */
export function doctorPage(r: DoctorResult, nonce: string, server: string): string {
  const copy = (text: string, label: string): string => `<button data-copy="${escapeHTML(text)}">${label}</button>`;
  const ability = (e: EngineInfo): string => `<tr class="${e.works ? 'yes' : 'no'}"><td class="mark" title="${e.works ? 'works' : 'does not work'}">${e.works ? '✓' : '✗'}</td>
<td class="what">${escapeHTML([e.engine, e.what].filter((x) => x).join(': '))}</td>
<td>${escapeHTML(e.detail)}${e.why ? `<div class="why">because ${escapeHTML(e.why)}</div>` : ''}${e.remedy ? `<div class="remedy"><code>${escapeHTML(e.remedy)}</code>${copy(e.remedy, 'Copy')}</div>` : ''}</td></tr>`;
  return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'nonce-${nonce}'; script-src 'nonce-${nonce}'">
<title>Sightline Doctor</title>
<style nonce="${nonce}">
body { max-width: 72em; padding: 1em 2em 2em; line-height: 1.5; }
h1 { font-weight: 400; font-size: 1.6em; margin: 0 0 .2em; }
p { display: flex; gap: 1.5em; align-items: baseline; margin: .2em 0 1.2em; color: var(--vscode-descriptionForeground); }
table { border-collapse: collapse; width: 100%; }
td { padding: .35em 1.5em .35em 0; vertical-align: top; border-top: 1px solid var(--vscode-panel-border, var(--vscode-widget-border)); overflow-wrap: anywhere; }
td:last-child { padding-right: 0; }
td.mark { width: 1.5em; padding-right: .5em; } td.what { white-space: nowrap; }
.yes td { color: var(--vscode-descriptionForeground); } .yes td.what, .no td { color: var(--vscode-foreground); }
.yes td.mark { color: var(--vscode-testing-iconPassed, var(--vscode-charts-green)); } .no td.mark { color: var(--vscode-testing-iconFailed, var(--vscode-charts-red)); }
.remedy { display: flex; gap: .8em; align-items: baseline; margin-top: .2em; }
button { flex: none; font: inherit; color: var(--vscode-button-secondaryForeground); background: var(--vscode-button-secondaryBackground); border: 0; border-radius: 2px; padding: .1em .8em; cursor: pointer; }
button:hover { background: var(--vscode-button-secondaryHoverBackground); }
code { font-family: var(--vscode-editor-font-family); }
</style></head><body>
<h1>${r.healthy ? 'Programs of your own can be recorded here' : 'Programs of your own cannot be recorded here'}</h1>
<p>${escapeHTML(server)} ${copy(r.text, 'Copy Report')}</p>
<table>${r.engines.map(ability).join('\n')}</table>
<script nonce="${nonce}">const vscode = acquireVsCodeApi(); document.addEventListener('click', (e) => { const t = e.target.closest('[data-copy]'); if (t) { vscode.postMessage({ copy: t.dataset.copy }); t.textContent = 'Copied'; } });</script>
</body></html>`;
}

let panel: vscode.WebviewPanel | undefined;

/** showDoctor shows what can be recorded here. */
export async function showDoctor(server: Server): Promise<DoctorResult> {
  const r = await server.request<DoctorResult>(MethodDoctor);
  if (!panel) {
    panel = vscode.window.createWebviewPanel('sightline.doctor', 'Sightline Doctor', vscode.ViewColumn.Active, { enableScripts: true, localResourceRoots: [] });
    panel.onDidDispose(() => { panel = undefined; });
    panel.webview.onDidReceiveMessage((m: { copy?: string }) => { if (typeof m.copy === 'string') void vscode.env.clipboard.writeText(m.copy); });
  }
  panel.webview.html = doctorPage(r, randomBytes(16).toString('base64'), `Sightline ${server.describe()}`);
  panel.reveal();
  return r;
}

const silenced = 'sightline.permissions.silenced';

/**
 * tellPermissions says once what a missing permission takes away, with the command that gives it. The
 * fallback is at work meanwhile.
 */
export async function tellPermissions(server: Server, state: vscode.Memento): Promise<void> {
  let r: DoctorResult;
  try {
    r = await server.request<DoctorResult>(MethodDoctor);
  } catch (err) {
    server.output.info(`${MethodDoctor}: ${messageOf(err)}`);
    return;
  }
  const missing = r.engines.find((e) => !e.works && e.remedy);
  if (!missing) return;
  const text = `${missing.engine}: ${missing.what}: ${missing.why}. ${r.healthy ? 'What works without it is recorded. To get it too, run' : 'To record, run'}: ${missing.remedy}`;
  if (state.get<string>(silenced) === text || !server.once(text)) return;
  const show = r.healthy ? vscode.window.showInformationMessage : vscode.window.showErrorMessage;
  const answer = await show(text, 'Copy Command', 'Doctor', "Don't Show Again");
  if (answer === 'Copy Command') await vscode.env.clipboard.writeText(missing.remedy);
  if (answer === 'Doctor') await showDoctor(server);
  if (answer === "Don't Show Again") await state.update(silenced, text);
}
