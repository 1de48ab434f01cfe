import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import type { RunResult } from '../../../shared/telemetry/run-status.ts';
import { allCells, cellId, runFileOf, runIdOf, teacherOf, type Cell } from './cells.ts';
import { appendRecord, parseRecords, readRecords, recordOf, type CellRecord } from './records.ts';
import { PYTORCH_12, renderPage, verdict } from './render.ts';

const cells = allCells();
const MAIN: Cell = { dataset: 'mnist', epochs: 12, method: 'magnitude-global', sparsity: 0.95, seed: 1 };

/** A result as a run gives it, as far as it is kept. */
const resultOf = (testAccuracy: number | null, state = 'SUCCEEDED') =>
  ({ state, testAccuracy, testLoss: 0.1, sparsity: 0.95, bytesPerStep: 1, wallSeconds: 9 }) as unknown as RunResult;
const record = (cell: Cell, accuracy: number): CellRecord => {
  const made = recordOf(cell, resultOf(accuracy));
  assert.ok(made);
  return made;
};
const recordsOf = (list: readonly CellRecord[]) =>
  parseRecords(list.map((each) => JSON.stringify(each)).join('\n'), cells);

describe('results', () => {
  it('has a cell for every run of the table, each with an id and a run of its own', () => {
    assert.equal(new Set(cells.map(cellId)).size, cells.length);
    assert.equal(new Set(cells.map(runIdOf)).size, cells.length);
    for (const id of [
      'mnist/12/rigl/99/3',
      'mnist/12/2:4/50/1',
      'fashion-mnist/12/random/90/1',
      'mnist/100/magnitude-global/98/1',
    ])
      assert.ok(
        cells.some((cell) => cellId(cell) === id),
        id,
      );
    assert.ok(cells.every((cell) => /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(runIdOf(cell))));
  });

  it('runs a teacher before its students', () => {
    for (const [i, cell] of cells.entries()) {
      const teacher = teacherOf(cell);
      if (teacher) assert.ok(cells.slice(0, i).some((other) => cellId(other) === cellId(teacher)));
    }
  });

  it('prunes the main job as the example run file does', async () => {
    const example = await readFile(new URL('../../../deploy/examples/lenet-300-100.yaml', import.meta.url), 'utf8');
    const { document } = parseRunFile(example, 'run.yaml');
    const cell = parseRunFile(stringify(runFileOf(MAIN, '')), 'run.yaml').document;
    const { match: _, ...rule } = document.sparsity[0] ?? assert.fail();
    assert.deepEqual(cell.sparsity, [{ ...rule, match: null }]);
    assert.deepEqual(cell.training, { ...document.training, decay: { l2: 0, l1: 0, match: '*' } });
    assert.deepEqual([cell.data, cell.seed, cell.model], [document.data, document.seed, document.model]);
  });

  it('writes run files of 100 epochs as published: 60,000 steps, pruned between 10 and 60 %', () => {
    const text = stringify(runFileOf({ ...MAIN, epochs: 100 }, ''));
    const { training, data, sparsity } = parseRunFile(text, 'run.yaml').document;
    assert.equal(training.steps, (100 * 60_000) / data.batchSize);
    const schedule = sparsity[0]?.schedule;
    assert.ok(schedule && 'beginStep' in schedule);
    const { beginStep, endStep } = schedule;
    assert.deepEqual([beginStep, endStep], [6000, 36_000]);
    assert.deepEqual(training.decay, { l2: 0.0005, l1: 0, match: '*' });
  });

  it('keeps only runs that ended, and of each cell the newest of its present recipe', () => {
    assert.equal(recordOf(MAIN, resultOf(0.9, 'STOPPED')), null);
    assert.equal(recordOf(MAIN, resultOf(null)), null);
    const old = { ...record(MAIN, 0.5), runId: 'mnist-12-magnitude-global-95-1-00000000' };
    const found = recordsOf([record(MAIN, 0.97), record(MAIN, 0.98), old]);
    assert.equal(found.get(cellId(MAIN))?.testAccuracy, 0.98);
    assert.equal(found.size, 1);
  });

  it('goes on after a torn line', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'whittle-results-'));
    try {
      const file = join(folder, 'results.jsonl');
      assert.equal((await readRecords(file, cells)).size, 0);
      await writeFile(file, '{"runId": "mni');
      await appendRecord(file, record(MAIN, 0.98));
      assert.equal((await readRecords(file, cells)).get(cellId(MAIN))?.testAccuracy, 0.98);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it('shows mean and standard deviation, what is missing, and the figures of others', () => {
    const seeds = [0.98, 0.981, 0.982].map((accuracy, i) => record({ ...MAIN, seed: i + 1 }, accuracy));
    const page = renderPage(cells, recordsOf([...seeds, record({ ...MAIN, sparsity: 0.9 }, 0.9817)]));
    const row = page.split('\n').find((line) => line.startsWith('| magnitude-global')) ?? '';
    assert.deepEqual(
      row.split('|').map((cell) => cell.trim()),
      ['', 'magnitude-global', '–', '98.17 (1 of 3)', '98.10 ± 0.10', '–', '–', ''],
    );
    assert.ok(page.includes('_PyTorch, 3 seeds_'));
    assert.ok(page.includes(`4 of ${cells.length} runs`));
  });

  it('says how it stands to PyTorch once all runs are there', () => {
    const own = cells.filter(
      ({ dataset, epochs, method }) => dataset === 'mnist' && epochs === 12 && method === 'magnitude-global',
    );
    const at = [98.2, 98.03, 97.44, 96.47];
    const records = own.map((cell) => record(cell, (at[[0.9, 0.95, 0.98, 0.99].indexOf(cell.sparsity)] ?? 0) / 100));
    const say = (list: readonly CellRecord[]) =>
      verdict('mnist', 12, cells, recordsOf(list), PYTORCH_12, [0.15, 0.15, 0.3, 0.3]);
    assert.match(
      say(records),
      /\+0.03 \(within 0.15\), −0.15 \(within 0.15\), −0.31 \(not within 0.3\), −0.30 \(within 0.3\)/,
    );
    assert.equal(say(records.slice(1)), '');
  });
});
