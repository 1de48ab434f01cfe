import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { denseChunks } from '../../shared/checkpoint/digests.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { credentialsToAsk } from '../../shared/security/run-security.ts';
import { WhittleError } from '../../shared/errors.ts';
import { openExchange, parameterServerClient, unary } from '../../shared/rpc/client.ts';
import { getBit } from '../../shared/sparsity/bitmap.ts';
import { scheduleValue } from '../../shared/sparsity/schedule/index.ts';
import type { RunResult, StepMetrics } from '../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  lastJson,
  readMetrics,
  readStatus,
  smallRunFile,
  start,
  untilStep,
  withFolder,
  writeRunFile,
} from './support.ts';

const SCHEDULE = {
  kind: 'polynomial',
  initialSparsity: 0.1,
  finalSparsity: 0.83,
  beginStep: 5,
  endStep: 252,
  frequency: 20,
  power: 3,
} as const;
const STEPS = 300;
const EVERY = 5;
const UPDATES = [5, 25, 45, 65, 85, 105, 125, 145, 165, 185, 205, 225, 245, 252];

/** Round-half-up of a target that is never within 1e-9 of a half: written out here, apart from the product's own. */
function scheduled(step: number, n: number): number {
  const updates = UPDATES.filter((update) => update <= step);
  const last = updates.at(-1);
  return last === undefined ? 0 : Math.floor(scheduleValue(SCHEDULE, last) * n + 0.5);
}

interface Cut {
  readonly clock: number;
  readonly manifest: Manifest;
  readonly weights: Float32Array;
  /** One entry an element. */
  readonly alive: readonly boolean[];
}

async function readCut(store: CheckpointStore, folder: string): Promise<Cut> {
  const manifest = await store.verify(folder);
  const weights: number[] = [];
  const alive: boolean[] = [];
  for await (const chunk of denseChunks(manifest, store)) {
    chunk.weights.forEach((weight, i) => {
      weights.push(weight);
      alive.push(getBit(chunk.mask, i));
    });
  }
  return { clock: manifest.clock, manifest, weights: Float32Array.from(weights), alive };
}

describe('what the history of a run shows that was interrupted and resumed on other servers', function () {
  this.timeout(300_000);
  let folder: string;
  let result: RunResult;
  let stoppedAt: number;
  let metrics: readonly StepMetrics[];
  let cuts: Cut[];
  /** Flat indices of the kernels, which the rule matches. */
  let prunable: boolean[];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'whittle-test-'));
    const document = {
      ...smallRunFile({ steps: STEPS, every: EVERY, keep: 1000 }),
      sparsity: [{ match: '*/kernel', schedule: SCHEDULE }],
    };
    const runDirectory = join(folder, 'run');
    const { child, ended } = start([
      'launch',
      await writeRunFile(folder, document),
      '--runs-dir',
      folder,
      '--run-id',
      'run',
      '--json',
    ]);
    await untilStep(runDirectory, 30, ended);
    child.kill('SIGINT');
    stoppedAt = lastJson<RunResult>(await ended).step;
    assert.ok(stoppedAt < STEPS);
    result = await finish(['resume', runDirectory, '--servers', '3', '--workers', '1']);
    metrics = await readMetrics(runDirectory);
    const store = new CheckpointStore(runDirectory);
    cuts = [];
    for (const { path, complete } of await store.list()) if (complete) cuts.push(await readCut(store, path));
    prunable = (cuts[0]?.manifest.model.parameters ?? []).flatMap(({ name, shape }) =>
      new Array<boolean>(shape.reduce((a, b) => a * b, 1)).fill(name.endsWith('/kernel')),
    );
  });
  after(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));

  it('covers every planned cut', () => {
    const planned = Array.from({ length: STEPS / EVERY + 1 }, (_, i) => i * EVERY);
    assert.deepEqual(
      cuts.map(({ clock }) => clock),
      [...new Set([...planned, stoppedAt])].sort((a, b) => a - b),
    );
    assert.ok(prunable.some((is) => is) && prunable.some((is) => !is));
  });

  it('1: every slice of every step was applied once', () => {
    assert.equal(result.stepsComputed, STEPS - stoppedAt);
    assert.deepEqual(result.slicesByWorker, { 0: 2 * (STEPS - stoppedAt) });
    assert.deepEqual(
      metrics.map(({ step }) => step),
      Array.from({ length: STEPS }, (_, i) => i + 1),
    );
  });

  it('3: mask epochs are in order, and dead elements are exactly +0 in every checkpoint', () => {
    metrics.forEach(({ step, maskEpoch }) =>
      assert.equal(maskEpoch, UPDATES.filter((update) => update <= step).length, `epoch at step ${step}`),
    );
    for (const { clock, manifest, weights, alive } of cuts) {
      assert.equal(
        manifest.maskEpoch,
        UPDATES.filter((update) => update <= clock).length,
        `epoch of checkpoint ${clock}`,
      );
      alive.forEach((is, i) =>
        assert.ok(is || Object.is(weights[i], 0), `element ${i} is dead at step ${clock} and has weight ${weights[i]}`),
      );
    }
  });

  it('4: the count removed equals that of the schedule at every step, counted from the stored masks', () => {
    const n = prunable.filter((is) => is).length;
    assert.equal(n, 384);
    for (const { clock, alive, manifest } of cuts) {
      const removed = alive.filter((is) => !is).length;
      assert.equal(removed, scheduled(clock, n), `removed at step ${clock}`);
      assert.equal(manifest.sparsity, removed / n);
      assert.ok(
        alive.every((is, i) => is || prunable[i]),
        `never-pruned elements live at step ${clock}`,
      );
    }
    for (const { step, sparsity } of metrics)
      assert.equal(sparsity, scheduled(step, n) / n, `sparsity in force at step ${step}`);
    const survivors = result.layers.reduce((sum, layer) => sum + layer.survivors, 0);
    assert.equal(prunable.length - survivors, scheduled(STEPS, n));
    assert.equal(scheduled(STEPS, n), 319);
  });

  it('5: no pruned element comes back', () => {
    cuts.slice(1).forEach((cut, i) => {
      const before = cuts[i];
      cut.alive.forEach((is, element) =>
        assert.ok(!is || before?.alive[element], `element ${element} came back by step ${cut.clock}`),
      );
    });
  });

  it('9: leaves no process and no lock', () => assertQuiet(result.runDirectory));
});

describe('a server that is sent what it must not take', function () {
  this.timeout(300_000);

  it('1, 7: frames and calls of an older generation, and slices pushed again, change no bit of the run', () =>
    withFolder(async (folder) => {
      const runFile = await writeRunFile(folder, smallRunFile({ steps: 450, every: 100 }));
      const never = await finish(['launch', runFile, '--runs-dir', folder]);

      const { ended } = start(['launch', runFile, '--runs-dir', folder, '--run-id', 'run', '--json']);
      await untilStep(join(folder, 'run'), 30, ended);
      const { members, generation } = await readStatus(join(folder, 'run'));
      assert.equal(generation, 1);
      const address = members.find(({ role, rank }) => role === 'server' && rank === 1)?.address ?? '';
      const client = parameterServerClient(address, await credentialsToAsk(join(folder, 'run')));
      const answers: string[] = [];
      try {
        const options = { deadlineMilliseconds: 10_000 };
        const old = { generation: 0, step: 31 };
        for (const [method, call] of [
          [
            'configure',
            () =>
              unary(
                client,
                'configure',
                { ...old, cuts: [0, 420], rank: 0, modelDescription: '{}', runFile: '{}', servers: [] },
                options,
              ),
          ],
          [
            'histogram',
            () => unary(client, 'histogram', { ...old, scoring: { criterion: 'magnitude', seed: 0 } }, options),
          ],
          [
            'commitMask',
            () =>
              unary(
                client,
                'commitMask',
                {
                  ...old,
                  maskEpoch: 99,
                  selections: [{ ranges: [{ start: 0, end: 420 }], threshold: 0xffffffff, ties: 0 }],
                },
                options,
              ),
          ],
          [
            'shareNorm',
            () => unary(client, 'shareNorm', { ...old, sender: 0, levels: [0], indices: [0], sums: [1e30] }, options),
          ],
        ] as const) {
          await assert.rejects(
            call(),
            (error) => error instanceof WhittleError && error.code === 'STALE_GENERATION',
            method,
          );
        }

        const stream = openExchange(client, { peer: 'server[1]' });
        let answered: () => void = () => undefined;
        const quiet = new Promise<void>((resolve) => (answered = resolve));
        stream.onMessage((header) => {
          answers.push(
            header.kind === 'REFUSED' ? `${header.kind} ${header.reason} of step ${header.clock}` : header.kind,
          );
          if (header.kind === 'WEIGHTS') answered();
        });
        const garbage = new Uint8Array(new Float32Array(64).fill(1e20).buffer);
        const facts = { sender: 9, maskEpoch: 1, loss: 1e20, examples: 16 };
        for (let step = 31; step < 130; step += 1) {
          for (const slice of [0, 1])
            await stream.send({ kind: 'PUSH', generation: 0, clock: step, slice, ...facts }, garbage);
        }
        await stream.send({ kind: 'PULL', generation: 0, clock: 31 });
        await stream.send({ kind: 'INITIAL', generation: 0 }, garbage);
        // Of the generation in force, but of steps applied long ago: answered with the weights of now.
        for (const last of [false, true])
          await stream.send({ kind: 'PUSH', generation, clock: 3, slice: 1, last, ...facts }, garbage);
        await quiet;
        await stream.close();
      } finally {
        client.close();
      }
      assert.equal(answers.filter((answer) => answer.startsWith('REFUSED STALE_GENERATION')).length, 2 * 99 + 2);
      assert.equal(answers.at(-1), 'WEIGHTS');

      const end = await ended;
      assert.equal(end.code, 0, end.stderr);
      assert.deepEqual(digestsOf(lastJson<RunResult>(end)), digestsOf(never));
      const applied = Object.values(lastJson<RunResult>(end).slicesByWorker).reduce((a, b) => a + b, 0);
      assert.equal(applied, 2 * 450);
    }));
});

describe('the end of a run', function () {
  this.timeout(300_000);

  it('9: leaves nothing in the process that launched it through the public interface', () =>
    withFolder(async (folder) => {
      const runFile = await writeRunFile(folder, smallRunFile({ steps: 100_000, every: 50 }));
      const script = join(folder, 'script.mjs');
      const index = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
      // Nothing ends this process but the want of anything to wait for.
      await writeFile(
        script,
        `import { launch } from ${JSON.stringify(index)};
const controller = new AbortController();
let steps = 0;
const result = await launch(
  { runFile: ${JSON.stringify(runFile)}, runsDirectory: ${JSON.stringify(folder)}, runId: 'run' },
  { signal: controller.signal, onStep: ({ step }) => { steps += 1; if (step === 20) controller.abort(); } },
);
console.log(JSON.stringify({ state: result.state, step: result.step, steps }));`,
      );
      const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
      let stdout = '';
      child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
      const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
      assert.equal(code, 0);
      const { state, step, steps } = JSON.parse(stdout) as { state: string; step: number; steps: number };
      assert.equal(state, 'STOPPED');
      assert.ok(step >= 20);
      assert.equal(steps, step, 'every step was told');
      await assertQuiet(join(folder, 'run'));
    }));

  it('10: comes also where a worker hangs without dying: the others do its part, and it leaves when it is told to', () =>
    withFolder(async (folder) => {
      const runDirectory = join(folder, 'run');
      const runFile = await writeRunFile(folder, smallRunFile({ steps: 300, every: 50 }));
      const { ended } = start(['launch', runFile, '--runs-dir', folder, '--run-id', 'run', '--json']);
      await untilStep(runDirectory, 10, ended);
      const worker = (await readStatus(runDirectory)).members.find(({ role, rank }) => role === 'worker' && rank === 1);
      process.kill(worker?.pid ?? 0, 'SIGSTOP');
      // While the run waits for the hung worker's heartbeat.
      const quiet = await finish(['launch', runFile, '--runs-dir', folder]);
      const end = await ended;
      assert.equal(end.code, 0, end.stderr);
      assert.deepEqual(digestsOf(lastJson<RunResult>(end)), digestsOf(quiet));
      const log = await readFile(join(runDirectory, 'logs', 'scheduler-0.log'), 'utf8');
      assert.match(log, /worker\[1\].*no heartbeat for \d+ s/);
      await assertQuiet(runDirectory);
    }));
});
