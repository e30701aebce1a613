// A test controller like the Go extension's: its id, and items whose ids are FILE?KIND#NAME.
const vscode = require('vscode');

exports.activate = async (context) => {
  const controller = vscode.tests.createTestController('go', 'Go');
  context.subscriptions.push(controller);
  controller.createRunProfile('Go', vscode.TestRunProfileKind.Run, () => {}, true);
  const item = (kind, label, uri, parent, name) => {
    const made = controller.createTestItem(uri.with({ query: kind, fragment: name ?? '' }).toString(), label, uri);
    (parent?.children ?? controller.items).add(made);
    return made;
  };
  for (const folder of vscode.workspace.workspaceFolders ?? []) {
    const module = item('module', folder.name, folder.uri);
    for (const uri of await vscode.workspace.findFiles(new vscode.RelativePattern(folder, '*_test.go'))) {
      const file = item('file', vscode.workspace.asRelativePath(uri), uri, module);
      const document = await vscode.workspace.openTextDocument(uri);
      for (const m of document.getText().matchAll(/^func ((Test|Benchmark)\w+)\(/gm)) {
        const test = item(m[2].toLowerCase(), m[1], uri, file, m[1]);
        test.range = new vscode.Range(document.positionAt(m.index), document.positionAt(m.index + m[0].length));
      }
    }
  }
};
