/**
 * The results page: `npm run results`. Runs every cell of the table that is not finished, one after the other (about 100
 * seconds each on 2 cores, a quarter of an hour those of 100 epochs), writes each result to results.jsonl and the
 * page to results.md beside this file. Interrupted, it goes on where it was.
 *
 *   --only GLOB   cells whose id matches, such as 'mnist/12/magnitude-global/*'; may be repeated
 *   --list        only say which there are, and which are finished
 *   --render      only write the page
 *   --json        last on stdout, one line of JSON
 *   --runs-dir    where the runs are; default runs/results
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../../shared/package-root.ts';
import { matchesGlob } from '../../../shared/sparsity/glob.ts';
import { allCells, cellId } from './cells.ts';
import { appendRecord, readRecords, recordOf } from './records.ts';
import { renderPage } from './render.ts';
import { runCell } from './run-cell.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    list: { type: 'boolean', default: false },
    render: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    'runs-dir': { type: 'string', default: join(packageRoot, 'runs', 'results') },
    docs: { type: 'string', default: join(packageRoot, 'test', 'bench', 'results') },
  },
});
const file = join(resolve(values.docs), 'results.jsonl');
const page = join(resolve(values.docs), 'results.md');
const cells = allCells();
const { only } = values;
const chosen =
  only === undefined ? cells : cells.filter((cell) => only.some((glob) => matchesGlob(glob, cellId(cell))));
if (chosen.length === 0) {
  process.stderr.write(`--only ${only?.join(' ')} matches no cell; --list shows them\n`);
  process.exit(2);
}

const summary = { cells: chosen.length, skipped: 0, finished: 0, failed: [] as string[], interrupted: false };
let pid: number | undefined;
// Ctrl-C reaches the run as well, which checkpoints and stops; a SIGTERM to this process alone is handed on.
process.on('SIGINT', () => (summary.interrupted = true));
process.on('SIGTERM', () => {
  summary.interrupted = true;
  if (pid !== undefined) process.kill(pid, 'SIGTERM');
});

if (values.list) await list();
else {
  if (!values.render) await runAll();
  await render();
  if (values.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
  if (summary.failed.length > 0) process.exitCode = 1;
  if (summary.interrupted) process.exitCode = 130;
}

async function list(): Promise<void> {
  const records = await readRecords(file, cells);
  const known = chosen.map((cell) => {
    const id = cellId(cell);
    return { id, testAccuracy: records.get(id)?.testAccuracy ?? null };
  });
  if (values.json) process.stdout.write(`${JSON.stringify(known)}\n`);
  else for (const { id, testAccuracy } of known) process.stdout.write(`${id}  ${percent(testAccuracy)}\n`);
}

async function runAll(): Promise<void> {
  for (const [i, cell] of chosen.entries()) {
    if (summary.interrupted) return;
    const id = cellId(cell);
    // Read anew: another process may run other cells.
    if ((await readRecords(file, cells)).has(id)) {
      summary.skipped += 1;
      continue;
    }
    say(`${i + 1}/${chosen.length} ${id}`);
    const outcome = await runCell(
      cell,
      resolve(values['runs-dir']),
      () => summary.interrupted,
      (now) => (pid = now),
    );
    const record = 'result' in outcome ? recordOf(cell, outcome.result) : null;
    if (record) {
      await appendRecord(file, record);
      await render();
      summary.finished += 1;
      say(`    ${percent(record.testAccuracy)} in ${Math.round(record.wallSeconds)} s`);
    } else if (!summary.interrupted) {
      summary.failed.push(id);
      say('failure' in outcome ? outcome.failure : `${id} ended as ${outcome.result.state}`);
    }
  }
}

async function render(): Promise<void> {
  const text = renderPage(cells, await readRecords(file, cells));
  await mkdir(dirname(page), { recursive: true });
  if ((await readFile(page, 'utf8').catch(() => '')) !== text) await writeFile(page, text);
}

function percent(accuracy: number | null): string {
  return accuracy === null ? '–' : `${(100 * accuracy).toFixed(2)} %`;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
