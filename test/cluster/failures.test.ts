import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { denseChunks } from '../../shared/checkpoint/digests.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  digestsOf,
  type Ended,
  FIXTURES,
  finish,
  goldenRunFile,
  lastJson,
  latestCheckpoint,
  processesOf,
  readMetrics,
  readStatus,
  smallRunFile,
  start,
  until,
  untilStep,
  whittle,
  withFolder,
  writeRunFile,
} from './support.ts';

const run = promisify(execFile);

/** More steps than any of these runs lives. */
const ENDLESS = 100_000;

function launchArgs(folder: string, runFile: string, runId = 'run'): string[] {
  return ['launch', runFile, '--runs-dir', folder, '--run-id', runId, '--json'];
}

/** The result of a run that failed: exit code 1, the failure and how to go on for people, nothing left behind. */
async function assertFailed(end: Ended, runDirectory: string, code: string): Promise<RunResult> {
  assert.equal(end.code, 1, `${end.stderr}\n${end.stdout}`);
  const result = lastJson<RunResult>(end);
  assert.equal(result.state, 'FAILED');
  assert.equal(result.failure?.code, code, JSON.stringify(result.failure));
  assert.ok(end.stderr.includes(`[${code}] `), end.stderr);
  assert.ok(end.stderr.includes(`whittle resume ${runDirectory}`), `says how to go on:\n${end.stderr}`);
  await assertQuiet(runDirectory);
  return result;
}

/** A user's mistake: exit code 2, no stack, no run directory. */
async function assertRefused(
  args: readonly string[],
  folder: string,
  messages: readonly (string | RegExp)[],
): Promise<void> {
  const end = await whittle(args);
  assert.equal(end.code, 2, `${end.stderr}\n${end.stdout}`);
  for (const message of messages) {
    assert.ok(
      typeof message === 'string' ? end.stderr.includes(message) : message.test(end.stderr),
      `${message} in:\n${end.stderr}`,
    );
  }
  assert.ok(!/^ {4}at /m.test(end.stderr), `no stack:\n${end.stderr}`);
  assert.deepEqual(await RunDirectory.list(folder), [], 'nothing was started');
}

async function resumable(runDirectory: string): Promise<number> {
  const end = await whittle(['resume', runDirectory, '--dry-run', '--json']);
  assert.equal(end.code, 0, end.stderr);
  return lastJson<{ resumedFrom: number }>(end).resumedFrom;
}

describe('a model or data module that cannot be used', function () {
  this.timeout(60_000);
  const cases: readonly [what: string, key: 'model' | 'data', code: string, messages: readonly (string | RegExp)[]][] =
    [
      [
        'throws while it is loaded',
        'model',
        `\nthrow new Error('my own words');`,
        ['[MODEL]', 'my own words', /module\.ts:2/],
      ],
      [
        'throws while it builds',
        'model',
        `export function model() {\n  throw new RangeError('too deep');\n}`,
        ['[MODEL]', 'RangeError: too deep', /module\.ts:2/],
      ],
      ['exports nothing', 'model', 'const x = 1;', ['[MODEL]', 'exports nothing', 'module.ts']],
      [
        'has labels out of range',
        'data',
        `\nconst part = { size: 64, batch: (indices) => ({
  inputs: { data: new Float32Array(20 * indices.length), shape: [indices.length, 20] },
  labels: { data: indices.map((i) => i % 5), shape: [indices.length] } }) };
export const train = part, classes = 4;`,
        ['[DATA]', /label 4 of example 4 in the training data of .*module\.ts is out of range/],
      ],
      ['exports no training data', 'data', 'export const test = 1;', ['[DATA]', 'train', 'module.ts']],
    ];
  for (const [what, key, code, messages] of cases) {
    it(`is refused: a ${key} module that ${what}`, () =>
      withFolder(async (folder) => {
        const module = join(folder, 'module.ts');
        await writeFile(module, code);
        const base = goldenRunFile({ servers: 1, workers: 1 });
        const document =
          key === 'model' ? { ...base, model: module } : { ...base, data: { source: module, batchSize: 32 } };
        await assertRefused(launchArgs(folder, await writeRunFile(folder, document)), folder, messages);
      }));
  }

  for (const [what, source, messages] of [
    ['a folder without idx files', { idx: './nowhere' }, ['[DATA]', 'nowhere', /train-images-idx3-ubyte/]],
    [
      'a csv file that is not there',
      { csv: { train: './nowhere.csv' } },
      ['[DATA]', 'nowhere.csv', /relative to the run file/],
    ],
  ] as const) {
    it(`is refused: ${what}, saying where the files come from`, () =>
      withFolder(async (folder) => {
        const document = {
          ...goldenRunFile({ servers: 1, workers: 1 }),
          model: 'logistic-regression',
          data: { source, batchSize: 32 },
        };
        await assertRefused(launchArgs(folder, await writeRunFile(folder, document)), folder, messages);
      }));
  }

  it('fails the run with its own words when it throws in the middle', () =>
    withFolder(async (folder) => {
      const module = join(folder, 'data.ts');
      await writeFile(
        module,
        `import { train as all } from ${JSON.stringify(join(FIXTURES, 'golden-data.ts'))};
let batches = 0;
export const train = { size: all.size, batch: (indices) => {
  if (++batches > 30) throw new Error('the tape is torn');
  return all.batch(indices);
} };`,
      );
      const document = {
        ...smallRunFile({ steps: 500, every: 10, workers: 1 }),
        data: { source: module, batchSize: 32 },
      };
      const end = await whittle(launchArgs(folder, await writeRunFile(folder, document)));
      const result = await assertFailed(end, join(folder, 'run'), 'DATA');
      assert.match(end.stderr, /worker\[0\].*the tape is torn/);
      assert.ok(result.step > 0);
      assert.equal(await resumable(join(folder, 'run')), (await latestCheckpoint(join(folder, 'run'))).clock);
    }));
});

describe('a number that is not finite', function () {
  this.timeout(60_000);

  it('stops the run at its step and keeps the last checkpoint: one example is NaN', () =>
    withFolder(async (folder) => {
      const module = join(folder, 'data.ts');
      // Example 70 of 256, in batches of 32 in order: step 3.
      await writeFile(
        module,
        `import { train as all } from ${JSON.stringify(join(FIXTURES, 'golden-data.ts'))};
export const train = { size: all.size, batch: (indices) => {
  const batch = all.batch(indices);
  indices.forEach((index, i) => { if (index === 70) batch.inputs.data[20 * i] = NaN; });
  return batch;
} };`,
      );
      const base = goldenRunFile({ servers: 2, workers: 2 });
      const document = {
        ...base,
        data: { source: module, batchSize: 32, order: 'sequential' },
        checkpoint: { every: 1, keep: 5 },
      };
      const runDirectory = join(folder, 'run');
      const end = await whittle(launchArgs(folder, await writeRunFile(folder, document)));
      const result = await assertFailed(end, runDirectory, 'NOT_FINITE');
      assert.match(result.failure?.message ?? '', / of step 3, slice 0 /);
      assert.match(end.stderr, /worker\[0\] failed at step 2: \[NOT_FINITE\] the loss of step 3, slice 0 is NaN/);
      assert.equal(result.failure?.step, 2);
      const { clock, folder: name } = await latestCheckpoint(runDirectory);
      assert.ok(clock === 1 || clock === 2, `checkpoint ${clock}`);
      const store = new CheckpointStore(runDirectory);
      for await (const { weights } of denseChunks(await store.verify(name), store))
        assert.ok(weights.every(Number.isFinite));
    }));

  it('stops a run that diverges, which then goes on with a lower learning rate', () =>
    withFolder(async (folder) => {
      const base = goldenRunFile({ servers: 1, workers: 1 });
      const training = { steps: 60, optimizer: { kind: 'sgd', learningRate: 1e30 } };
      const runFile = await writeRunFile(folder, { ...base, training });
      const end = await whittle(launchArgs(folder, runFile));
      const result = await assertFailed(end, join(folder, 'run'), 'NOT_FINITE');
      const step = Number(/ of step (\d+), /.exec(result.failure?.message ?? '')?.[1]);
      assert.equal(step, (result.failure?.step ?? 0) + 1, 'the step after the last one that was applied');
      assert.ok(step <= 3, `step ${step}`);
      const again = await finish(['resume', join(folder, 'run'), '--set', 'training.optimizer.learningRate=0.1']);
      assert.equal(again.resumedFrom, 0);
      assert.equal(again.state, 'SUCCEEDED');
      assert.deepEqual(
        (await readMetrics(join(folder, 'run'))).map(({ step }) => step),
        Array.from({ length: 60 }, (_, i) => i + 1),
      );
    }));

  it('stops a run whose loss is finite and whose gradient is not', () =>
    withFolder(async (folder) => {
      const model = join(folder, 'model.ts');
      await writeFile(
        model,
        `export const model = (tf) => tf.sequential({ layers: [tf.layers.dense({ units: 4, inputShape: [20] })] });
export const loss = (tf, labels, outputs) => tf.mean(tf.sqrt(tf.relu(tf.mul(outputs, 0))));`,
      );
      const document = { ...goldenRunFile({ servers: 1, workers: 1 }), model };
      const end = await whittle(launchArgs(folder, await writeRunFile(folder, document)));
      const { failure } = await assertFailed(end, join(folder, 'run'), 'NOT_FINITE');
      assert.match(failure?.message ?? '', /the gradient of step 1, slice 0 /);
    }));
});

it('resuming or evaluating with another model shows what differs and changes nothing', function () {
  this.timeout(120_000);
  return withFolder(async (folder) => {
    const model = join(folder, 'model.ts');
    const write = (units: number, last: string, activation = 'relu', loss = ''): Promise<void> =>
      writeFile(
        model,
        `export const model = (tf) => tf.sequential({ layers: [
          tf.layers.dense({ units: ${units}, activation: '${activation}', inputShape: [20], name: 'first' }),
          tf.layers.dense({ units: 4, name: '${last}' })] });\n${loss}`,
      );
    await write(16, 'last');
    const runFile = await writeRunFile(folder, { ...goldenRunFile({ servers: 1, workers: 1 }), model });
    const result = await finish(['launch', runFile, '--runs-dir', folder, '--run-id', 'run']);
    const before = await readFile(join(folder, 'run', 'run.yaml'), 'utf8');
    await write(24, 'head');
    const longer = ['resume', result.runDirectory, '--set', 'training.steps=80'];
    const evaluate = ['evaluate', result.runDirectory];
    for (const command of [longer, evaluate]) {
      const end = await whittle(command);
      assert.equal(end.code, 1, end.stderr);
      for (const line of [
        '[CHECKPOINT]',
        'shape changed: parameter first/kernel was [20, 16], is [20, 24]',
        'missing: parameter last/kernel [16, 4]',
        'added: parameter head/kernel [24, 4]',
      ])
        assert.ok(end.stderr.includes(line), `${line} in:\n${end.stderr}`);
    }
    assert.equal(await readFile(join(folder, 'run', 'run.yaml'), 'utf8'), before);
    await assertQuiet(result.runDirectory);

    // The same tensors fit whatever is computed with them: a warning, and the user decides.
    await write(16, 'last', 'tanh', 'export const loss = (tf, labels, outputs) => tf.mean(outputs);');
    for (const command of [[...longer, '--dry-run'], evaluate]) {
      const end = await whittle(command);
      assert.equal(end.code, 0, end.stderr);
      assert.match(end.stderr, /^warning: the model changed since step-\S+ was written/m);
      assert.match(end.stderr, /layer first: activation was "relu", is "tanh"/);
      assert.match(end.stderr, /the loss was softmax cross-entropy on logits, is the module's own/);
    }
    await write(16, 'last');
    const same = await whittle(evaluate);
    assert.deepEqual([same.code, same.stderr], [0, '']);
    assert.equal((await finish(['resume', result.runDirectory, '--set', 'training.steps=80'])).resumedFrom, 60);

    // While a finished run is at hand: a scheduler that cannot listen says so and gives the directory back.
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    const refused = await whittle(['scheduler', '--run-dir', result.runDirectory, '--port', String(port)]);
    taken.close();
    assert.equal(refused.code, 1, refused.stderr);
    assert.ok(
      refused.stderr.includes(`[PORT] cannot listen on 127.0.0.1:${port}: another process listens there`),
      refused.stderr,
    );
    await assertQuiet(result.runDirectory);
  });
});

describe('a role that dies', function () {
  this.timeout(60_000);

  for (const victim of ['worker[1]', 'server[1]', 'scheduler[0]']) {
    it(`ends the run with its cause: ${victim}`, () =>
      withFolder(async (folder) => {
        const runDirectory = join(folder, 'run');
        const { ended } = start(
          launchArgs(folder, await writeRunFile(folder, smallRunFile({ steps: ENDLESS, every: 20 }))),
        );
        await untilStep(runDirectory, 45, ended);
        const status = await readStatus(runDirectory);
        const member = status.members.find(({ role, rank }) => `${role}[${rank}]` === victim);
        process.kill(member?.pid ?? status.scheduler.pid, 'SIGKILL');
        const end = await ended;
        const result = await assertFailed(end, runDirectory, 'ROLE_LOST');
        assert.equal(`${result.failure?.role}[${result.failure?.rank}]`, victim);
        assert.ok(end.stderr.includes(`${victim} was killed by SIGKILL`), end.stderr);
        assert.equal((await readStatus(runDirectory)).state, 'FAILED');
        const { clock } = await latestCheckpoint(runDirectory);
        assert.ok(clock >= 20, `checkpoint ${clock} is kept`);
        assert.equal(await resumable(runDirectory), clock);
      }));
  }

  it('is missed by nobody but the launcher: the run checkpoints and stops by itself', () =>
    withFolder(async (folder) => {
      const runDirectory = join(folder, 'run');
      const runFile = await writeRunFile(folder, smallRunFile({ steps: ENDLESS, every: 20 }));
      const { child, ended } = start(launchArgs(folder, runFile));
      await untilStep(runDirectory, 5, ended);

      // Meanwhile nobody else gets at the run.
      const second = await whittle(launchArgs(folder, runFile));
      assert.equal(second.code, 2, second.stderr);
      assert.match(second.stderr, /\[RUN_EXISTS\] run run exists .*whittle resume run/);
      const resumed = await whittle(['resume', runDirectory]);
      assert.equal(resumed.code, 2, resumed.stderr);
      assert.match(resumed.stderr, /\[RUN_LOCKED\] .*is held by the scheduler with pid \d+/);

      const seen = (await readMetrics(runDirectory)).length;
      await untilStep(runDirectory, seen + 1, ended);
      child.kill('SIGKILL');
      await until('the orphaned roles to leave', async () =>
        (await processesOf(runDirectory)).length === 0 ? true : null,
      );
      const status = await readStatus(runDirectory);
      assert.equal(status.state, 'STOPPED');
      assert.equal((await latestCheckpoint(runDirectory)).clock, status.step);
      await assertQuiet(runDirectory);
    }));
});

describe('a full disk while checkpoints are written', function () {
  this.timeout(90_000);
  const STEPS = 700;
  const document = smallRunFile({ steps: STEPS, every: 50, keep: 2 });
  let never: RunResult;

  before(() =>
    withFolder(async (folder) => {
      never = await finish(['launch', await writeRunFile(folder, document), '--runs-dir', folder]);
    }),
  );

  /** Runs on a file system of its own of 3 MiB, or skips. */
  async function onSmallDisk(
    context: Mocha.Context,
    body: (disk: string, folder: string) => Promise<void>,
  ): Promise<void> {
    await withFolder(async (folder) => {
      const disk = join(folder, 'disk');
      await mkdir(disk);
      try {
        await run('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', disk]);
      } catch (error) {
        console.log(`      skipped: no small file system can be mounted here: ${String(error)}`);
        context.skip();
      }
      try {
        await body(disk, folder);
      } finally {
        await run('umount', ['-l', disk]);
      }
    });
  }

  async function fill(disk: string): Promise<string> {
    const ballast = join(disk, 'ballast');
    for (let size = 1 << 20; size >= 1; size = Math.floor(size / 2)) {
      for (;;) {
        try {
          await writeFile(ballast, Buffer.alloc(size), { flag: 'a' });
        } catch {
          break;
        }
      }
    }
    return ballast;
  }

  it('is a warning while an older checkpoint exists, and loses nothing', function () {
    return onSmallDisk(this, async (disk, folder) => {
      const runFile = await writeRunFile(folder, document);
      const runDirectory = join(disk, 'run');
      const { child, ended } = start(launchArgs(disk, runFile));
      let told = '';
      child.stderr?.on('data', (chunk: Buffer) => (told += chunk.toString()));
      await untilStep(runDirectory, 60, ended);
      const ballast = await fill(disk);
      await until('the warning', () =>
        /checkpoint \d+ failed: .*no space left.*the checkpoint of step \d+ is kept, training goes on/.test(told)
          ? true
          : null,
      );
      await rm(ballast);
      const end = await ended;
      assert.equal(end.code, 0, end.stderr);
      assert.deepEqual(digestsOf(lastJson<RunResult>(end)), digestsOf(never));
      assert.deepEqual(
        (await readMetrics(runDirectory)).map(({ step }) => step),
        Array.from({ length: STEPS }, (_, i) => i + 1),
      );
      await assertQuiet(runDirectory);
    });
  });

  it('fails the run at its last checkpoint, and the older one goes on when there is space', function () {
    return onSmallDisk(this, async (disk, folder) => {
      const runFile = await writeRunFile(folder, document);
      const runDirectory = join(disk, 'run');
      const { ended } = start(launchArgs(disk, runFile));
      await untilStep(runDirectory, 60, ended);
      const ballast = await fill(disk);
      const end = await ended;
      const result = await assertFailed(end, runDirectory, 'DISK');
      assert.match(result.failure?.message ?? '', /no space left on the device.*free space there/);
      assert.match(result.failure?.message ?? '', /the checkpoint of step \d+ is kept/);
      await rm(ballast);
      const { clock } = await latestCheckpoint(runDirectory);
      assert.ok(clock >= 50 && clock < STEPS, `checkpoint ${clock} is kept`);
      const again = await finish(['resume', runDirectory]);
      assert.equal(again.resumedFrom, clock);
      assert.deepEqual(digestsOf(again), digestsOf(never));
      assert.deepEqual(
        (await readMetrics(runDirectory)).map(({ step }) => step),
        Array.from({ length: STEPS }, (_, i) => i + 1),
      );
      assert.ok(!(await readdir(join(runDirectory, 'checkpoints'))).some((name) => name.endsWith('.tmp')));
      await assertQuiet(runDirectory);
    });
  });
});
