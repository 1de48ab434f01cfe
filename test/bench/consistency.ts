/**
 * Global batches a second and accuracy of bsp, ssp and asp where one worker of three is five times slower: it is
 * stopped for four fifths of every 50 ms. `npm run bench:consistency [-- STEPS]`; the modes run one after the other.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { lastJson, readMetrics, readStatus, start } from '../cluster/support.ts';

const STEPS = Number(process.argv[2] ?? 5616);
const SLOW = 2;
const PERIOD_MS = 50;
const MODES = {
  bsp: ['--set', 'consistency.mode=bsp'],
  ssp: ['--set', 'consistency={mode: ssp, staleness: 3}'],
  asp: ['--set', 'consistency.mode=asp'],
} as const;

const folder = await mkdtemp(join(tmpdir(), 'whittle-consistency-'));
const example = new URL('../../deploy/examples/lenet-300-100.yaml', import.meta.url).pathname;
try {
  const rows: Record<string, { batchesPerSecond: number; testAccuracy: number | null; slowSlices: number }> = {};
  for (const [mode, set] of Object.entries(MODES)) {
    const directory = join(folder, mode);
    const sized = STEPS === 5616 ? [] : scaled(STEPS);
    const args = ['launch', example, '--runs-dir', folder, '--run-id', mode, '--json', ...set, ...sized];
    const { child, ended } = start([...args, '--set', 'cluster.workers=3', '--set', 'cluster.slices=6']);
    child.stderr?.on('data', () => undefined);
    const brake = setInterval(() => void slow(directory), PERIOD_MS);
    const end = await ended;
    clearInterval(brake);
    if (end.code !== 0) throw new Error(end.stderr);
    const result = lastJson<RunResult>(end);
    const times = (await readMetrics(directory)).slice(50).map(({ seconds }) => seconds);
    rows[mode] = {
      batchesPerSecond: times.length / times.reduce((a, b) => a + b, 0),
      testAccuracy: result.testAccuracy,
      slowSlices: result.slicesByWorker[SLOW] ?? 0,
    };
    process.stderr.write(`${mode} ${JSON.stringify(rows[mode])}\n`);
  }
  const base = rows['bsp']?.batchesPerSecond ?? NaN;
  const ratios = Object.fromEntries(Object.entries(rows).map(([mode, row]) => [mode, row.batchesPerSecond / base]));
  process.stdout.write(`${JSON.stringify({ steps: STEPS, ...rows, ratioToBsp: ratios })}\n`);
} finally {
  await rm(folder, { recursive: true, force: true });
}

async function slow(directory: string): Promise<void> {
  const status = await readStatus(directory).catch(() => null);
  const member = status?.members.find(({ role, rank }) => role === 'worker' && rank === SLOW);
  if (!member) return;
  try {
    process.kill(member.pid, 'SIGSTOP');
    setTimeout(() => resume(member.pid), 0.8 * PERIOD_MS);
  } catch {
    // It has ended.
  }
}

function resume(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT');
  } catch {
    // It has ended.
  }
}

/** The main job's schedule at another length. */
function scaled(steps: number): string[] {
  const at = (share: number): number => Math.round(share * steps);
  return [
    ...['--set', `training.steps=${steps}`, '--set', `training.evaluateEvery=${steps}`],
    ...['--set', `sparsity.0.schedule.beginStep=${at(1 / 12)}`, '--set', `sparsity.0.schedule.endStep=${at(0.7)}`],
  ];
}
