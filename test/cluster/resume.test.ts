import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { hashFile } from '../../shared/checkpoint/verify.ts';
import type { RunResult, StepMetrics } from '../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  killRun,
  lastJson,
  latestCheckpoint,
  readMetrics,
  smallRunFile,
  start,
  twoAtOnce,
  untilStep,
  whittle,
  writeRunFile,
} from './support.ts';

/** WHITTLE_SEED repeats a run of these tests: it decides the steps at which runs are killed. */
const SEED = Number(process.env['WHITTLE_SEED'] ?? randomInt(2 ** 31));

/** A step of [from, to), for the nth kill of this file. */
function randomStep(nth: number, from: number, to: number): number {
  return from + ((SEED + 7919 * nth) % (to - from));
}

interface Killed {
  readonly runDirectory: string;
  /** Last step in metrics.jsonl. */
  readonly killedAt: number;
  /** Clock of the last committed checkpoint. */
  readonly committed: number;
}

/** Launches run `killed` in a folder of its own and kills every process of it once `step` is recorded. */
async function launchAndKill(folder: string, runFile: string, step: number): Promise<Killed> {
  const runDirectory = join(folder, 'killed');
  const { child, ended } = start(['launch', runFile, '--runs-dir', folder, '--run-id', 'killed', '--json']);
  await untilStep(runDirectory, step, ended);
  await killRun(runDirectory, child);
  assert.equal((await ended).code, null, 'the launcher was killed before the end of the run');
  const { clock } = await latestCheckpoint(runDirectory);
  return { runDirectory, killedAt: (await readMetrics(runDirectory)).at(-1)?.step ?? 0, committed: clock };
}

/** The same run directory, untouched, elsewhere: several resumes may start from one crash. */
async function copyOf(runDirectory: string, folder: string, name: string): Promise<string> {
  const copy = join(folder, name, 'killed');
  await cp(runDirectory, copy, { recursive: true });
  return copy;
}

/** Every step once and in order, each as in the run that was never stopped. */
function assertSameHistory(metrics: readonly StepMetrics[], expected: readonly StepMetrics[]): void {
  const facts = (records: readonly StepMetrics[]): unknown[] =>
    records.map(({ step, loss, sparsity, maskEpoch }) => [step, loss, sparsity, maskEpoch]);
  assert.deepEqual(
    metrics.map(({ step }) => step),
    Array.from({ length: expected.length }, (_, i) => i + 1),
  );
  assert.deepEqual(facts(metrics), facts(expected));
}

async function assertContinued(
  result: RunResult,
  from: number,
  never: { result: RunResult; metrics: readonly StepMetrics[] },
): Promise<void> {
  assert.equal(result.state, 'SUCCEEDED');
  assert.equal(result.resumedFrom, from);
  assert.equal(result.stepsComputed, never.result.totalSteps - from);
  assert.deepEqual(digestsOf(result), digestsOf(never.result), 'digests of the run that was never stopped');
  assertSameHistory(await readMetrics(result.runDirectory), never.metrics);
  await assertQuiet(result.runDirectory);
}

/** No more than the steps since the last checkpoint are done again; one being written when the axe fell does not count. */
async function assertLittleLost({ runDirectory, killedAt, committed }: Killed, every: number): Promise<void> {
  const begun = Math.max(...(await new CheckpointStore(runDirectory).list()).map(({ clock }) => clock));
  assert.ok(begun - committed <= every, `checkpoint ${committed} is committed, ${begun} was begun`);
  assert.ok(killedAt - begun <= every, `killed at ${killedAt}, checkpoint ${begun} was begun`);
}

async function inFolder<T>(run: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'whittle-test-'));
  try {
    return await run(folder);
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

describe(`a run on MNIST, killed and resumed (WHITTLE_SEED=${SEED})`, function () {
  this.timeout(300_000);
  const every = 40;
  const optimizers = [
    { kind: 'adam', learningRate: 0.001 },
    { kind: 'sgd', learningRate: 0.05, momentum: 0.9, nesterov: true },
  ];
  optimizers.forEach((optimizer, nth) => {
    const step = randomStep(nth, 10, 50);
    it(`gives the digests of the run never stopped: ${optimizer.kind}, killed at step ${step}`, () =>
      inFolder(async (folder) => {
        const runFile = await writeRunFile(folder, {
          name: 'lenet',
          model: 'lenet-300-100',
          data: { source: 'mnist', batchSize: 64 },
          cluster: { servers: 2, workers: 2, backend: 'wasm', slices: 2 },
          training: { steps: 100, optimizer, evaluateEvery: 0 },
          sparsity: [
            {
              schedule: {
                kind: 'polynomial',
                finalSparsity: 0.9,
                beginStep: 10,
                endStep: 80,
                frequency: 15,
                power: 3,
              },
            },
          ],
          checkpoint: { every, keep: 3 },
        });
        const result = await finish(['launch', runFile, '--runs-dir', folder, '--run-id', 'never']);
        const never = { result, metrics: await readMetrics(result.runDirectory) };
        const killed = await launchAndKill(folder, runFile, step);
        await assertLittleLost(killed, every);
        const other = await copyOf(killed.runDirectory, folder, 'other');
        const resumes = [[killed.runDirectory], [other, '--servers', '3', '--workers', '1']];
        await twoAtOnce(resumes, async (args) =>
          assertContinued(await finish(['resume', ...args]), killed.committed, never),
        );
      }));
  });
});

describe(`resume (WHITTLE_SEED=${SEED})`, function () {
  this.timeout(300_000);
  const every = 100;
  const total = 620;
  const killStep = randomStep(2, 310, 400);
  const interruptStep = randomStep(3, 50, 400);
  let folder: string;
  let runFile: string;
  let never: { result: RunResult; metrics: readonly StepMetrics[] };
  let killed: Killed;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'whittle-test-'));
    runFile = await writeRunFile(folder, smallRunFile({ steps: total, every }));
    const result = await finish(['launch', runFile, '--runs-dir', folder, '--run-id', 'never']);
    never = { result, metrics: await readMetrics(result.runDirectory) };
    killed = await launchAndKill(folder, runFile, killStep);
  });
  after(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));

  for (const [servers, workers] of [
    [2, 2],
    [3, 1],
  ] as const) {
    it(`continues with batch normalisation, dropout and clipping, killed at step ${killStep}: ${servers} servers, ${workers} workers`, async () => {
      await assertLittleLost(killed, every);
      const copy = await copyOf(killed.runDirectory, folder, `on-${servers}-${workers}`);
      await assertContinued(
        await finish(['resume', copy, '--servers', String(servers), '--workers', String(workers)]),
        killed.committed,
        never,
      );
    });
  }

  it('leaves a finished run as it is', async () => {
    const before = await readFile(join(never.result.runDirectory, 'metrics.jsonl'), 'utf8');
    assert.deepEqual(await finish(['resume', never.result.runDirectory]), never.result);
    assert.equal(await readFile(join(never.result.runDirectory, 'metrics.jsonl'), 'utf8'), before);
  });

  it('goes back to an earlier step, and then continues from there', async () => {
    const copy = await copyOf(never.result.runDirectory, folder, 'earlier');
    // So near the end that moving averages that were not restored would still show.
    await assertContinued(await finish(['resume', copy, '--step', '619', '--again']), 600, never);
    // What the rollback left behind is no part of the run any more.
    assert.deepEqual((await latestCheckpoint(copy)).generation, 2);
  });

  it(`stops on Ctrl-C with a checkpoint and continues from it, at step ${interruptStep}`, async () => {
    const runDirectory = join(folder, 'interrupted');
    const { child, ended } = start(['launch', runFile, '--runs-dir', folder, '--run-id', 'interrupted', '--json']);
    await untilStep(runDirectory, interruptStep, ended);
    child.kill('SIGINT');
    const end = await ended;
    assert.equal(end.code, 130, end.stderr);
    const stopped = lastJson<RunResult>(end);
    assert.equal(stopped.state, 'STOPPED');
    assert.ok(stopped.step >= interruptStep && stopped.step < total, `stopped at step ${stopped.step}`);
    assert.equal(
      (await latestCheckpoint(runDirectory)).clock,
      stopped.step,
      'a checkpoint at the step at which it stopped',
    );
    assertSameHistory(await readMetrics(runDirectory), never.metrics.slice(0, stopped.step));
    await assertQuiet(runDirectory);
    await assertContinued(await finish(['resume', runDirectory]), stopped.step, never);
  });

  it('passes over damaged checkpoints, naming each', async () => {
    const copy = await copyOf(killed.runDirectory, folder, 'damaged');
    const store = new CheckpointStore(copy);
    const usable = (await store.list()).filter(({ complete, clock }) => complete && clock <= killed.committed);
    const [sound, flipped, cut] = usable.slice(-3);
    assert.ok(sound && flipped && cut);
    const shard = join(cut.path, 'shard-0.safetensors');
    await truncate(shard, (await readFile(shard)).length - 1);
    const other = join(flipped.path, 'shard-1.safetensors');
    const bytes = await readFile(other);
    const last = bytes.length - 1;
    bytes[last] = (bytes[last] ?? 0) ^ 1;
    await writeFile(other, bytes);

    const end = await whittle(['resume', copy, '--json']);
    assert.equal(end.code, 0, end.stderr);
    const warnings = end.stderr.split('\n').filter((line) => line.startsWith('warning:'));
    for (const { name } of [flipped, cut])
      assert.equal(
        warnings.filter((line) => line.includes(name)).length,
        1,
        `one warning names ${name}:\n${end.stderr}`,
      );
    assert.ok(!warnings.some((line) => line.includes(sound.name)), end.stderr);
    await assertContinued(lastJson(end), sound.clock, never);
  });

  it('gives other digests from a checkpoint in which one weight was altered and the hashes redone', async () => {
    const copy = await copyOf(killed.runDirectory, folder, 'altered');
    const checkpoint = join(copy, 'checkpoints', (await latestCheckpoint(copy)).folder);
    const file = join(checkpoint, 'shard-0.safetensors');
    const bytes = await readFile(file);
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0)))) as {
      weights: { data_offsets: [number, number] };
    };
    const at = 8 + Number(bytes.readBigUInt64LE(0)) + header.weights.data_offsets[0];
    bytes.writeFloatLE(bytes.readFloatLE(at) + 0.25, at);
    await writeFile(file, bytes);
    const manifestFile = join(checkpoint, 'manifest.json');
    const manifest = JSON.parse(await readFile(manifestFile, 'utf8')) as Manifest;
    const { sha256 } = await hashFile(file);
    const shards = manifest.shards.map((shard) =>
      shard.file === 'shard-0.safetensors' ? { ...shard, sha256 } : shard,
    );
    await writeFile(manifestFile, JSON.stringify({ ...manifest, shards }));

    const result = await finish(['resume', copy]);
    assert.equal(result.resumedFrom, killed.committed);
    assert.notEqual(result.weightsDigest, never.result.weightsDigest);
    assert.notEqual(result.stateDigest, never.result.stateDigest);
  });
});
