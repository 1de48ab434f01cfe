import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { exportRun } from '../../deploy/export/export.ts';
import { parseRunFile } from '../../shared/config/run-file.ts';
import { Engine } from '../../worker/training/engine.ts';
import { describeJob } from '../../worker/training/describe.ts';
import { CONFIG, writeCheckpoint } from './export/support.ts';

const PROJECT = fileURLToPath(new URL('../../', import.meta.url));

/** The code of the README whose first line names this file. */
async function example(name: string): Promise<string> {
  const readme = await readFile(join(PROJECT, 'README.md'), 'utf8');
  const blocks = [...readme.matchAll(/^```\w+\n(.*?)^```$/gms)].map(([, code]) => code ?? '');
  const found = blocks.filter((code) => code.startsWith(`// ${name}`));
  assert.equal(found.length, 1, name);
  return found[0] as string;
}

describe('code in the README', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'whittle-readme-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  it('data and model modules make a job, with the loss of the module and with a built-in model', async () => {
    for (const name of ['data.ts', 'model.js']) await writeFile(join(folder, name), await example(name));
    for (const model of ['./model.js', 'logistic-regression']) {
      const text = `
name: readme
model: ${model}
data: { source: ./data.ts, batchSize: 64 }
cluster: { servers: 1, workers: 1, backend: wasm }
training: { steps: 10, optimizer: { kind: sgd, learningRate: 0.1 } }
`;
      const { description, warnings } = await describeJob(parseRunFile(text, join(folder, 'run.yaml')));
      assert.deepEqual([description.trainExamples, description.testExamples, warnings], [1000, 200, []]);
    }
  });

  it('loads an export in plain Node', async () => {
    const engine = await Engine.create({ config: CONFIG });
    try {
      const { folder: checkpoint } = await writeCheckpoint(join(folder, 'run'), engine);
      await exportRun({ folder: checkpoint, format: 'tfjs', out: join(folder, 'model') });
    } finally {
      engine.dispose();
    }
    await writeFile(join(folder, 'predict.mjs'), await example('predict.mjs'));
    await symlink(join(PROJECT, 'node_modules'), join(folder, 'node_modules'));
    const { stdout } = await promisify(execFile)(process.execPath, ['predict.mjs'], { cwd: folder });
    const outputs = /Float32Array\(4\) \[(.*?)\]/s.exec(stdout)?.[1]?.split(',').map(Number);
    assert.ok(outputs?.length === 4 && outputs.every(Number.isFinite), stdout);
    assert.ok(new Set(outputs).size > 1, stdout);
  });
});
