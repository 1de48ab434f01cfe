import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RunResult } from '../../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  FIXTURES,
  launchAndKillAt,
  latestCheckpoint,
  readMetrics,
  removeFolder,
  twoAtOnce,
  writeRunFile,
} from '../support.ts';
import { Contents } from './contents.ts';
import { type Axis, namesInSchema, namesOfRule } from './schema-names.ts';
import { EVERY, STEPS, type Technique, TECHNIQUES } from './table.ts';

const CLOCKS = Array.from({ length: STEPS / EVERY + 1 }, (_, i) => i * EVERY);

/** All techniques in one run, each on its branch of the model. */
function runFile(model: string): Record<string, unknown> {
  return {
    name: 'techniques',
    model,
    data: { source: 'mnist', batchSize: 64 },
    cluster: { backend: 'wasm', slices: 2 },
    training: { steps: STEPS, optimizer: { kind: 'adam', learningRate: 0.002 }, evaluateEvery: 0 },
    sparsity: TECHNIQUES.map(({ name, layers = '?', rule }) => ({ match: `${name}_${layers}/kernel`, ...rule })),
    checkpoint: { every: EVERY, keep: 20 },
  };
}

describe('every way to prune, on MNIST', function () {
  this.timeout(300_000);
  let folder: string;
  let results: Readonly<Record<string, RunResult>>;
  let contents: Readonly<Record<string, ReadonlyMap<number, Contents>>>;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'whittle-techniques-'));
    const model = join(folder, 'model.ts');
    const branches = TECHNIQUES.map(({ name, branch }) => ({ name, kind: branch }));
    await writeFile(
      model,
      `import { branched } from ${JSON.stringify(join(FIXTURES, 'branched-model.ts'))};
export const model = (tf) => branched(tf, ${JSON.stringify(branches)});\n`,
    );
    const path = await writeRunFile(folder, runFile(model));
    const launch = (runId: string, servers: number, workers: number): string[] => [
      ...['launch', path, '--runs-dir', folder, '--run-id', runId],
      ...['--set', `cluster.servers=${servers}`, '--set', `cluster.workers=${workers}`],
    ];
    const killed = join(folder, 'killed');
    const whole = (servers: number, workers: number) => () =>
      finish(launch(`on-${servers}-${workers}`, servers, workers));
    const interrupted = async (): Promise<RunResult> => {
      // In the middle of a mask update: one of the servers has the new mask, the other has not.
      await launchAndKillAt('commit.sent-to-some@35', launch('killed', 2, 2), killed);
      const { clock } = await latestCheckpoint(killed);
      const result = await finish(['resume', killed, '--servers', '3', '--workers', '1']);
      assert.equal(result.resumedFrom, clock);
      assert.ok(clock >= EVERY && clock < 35, `resumed from step ${clock}`);
      await assertQuiet(killed);
      return result;
    };
    const jobs = [interrupted, whole(2, 2), whole(1, 1), whole(3, 1)];
    const [resumed, two, one, three] = await twoAtOnce(jobs, (job) => job());
    assert.ok(one && two && three && resumed);
    results = { one, two, three, resumed };
    contents = Object.fromEntries(
      await Promise.all(
        Object.entries(results).map(async ([name, { runDirectory }]) => {
          const read = CLOCKS.map(async (clock) => [clock, await Contents.of(runDirectory, clock)] as const);
          return [name, new Map(await Promise.all(read))] as const;
        }),
      ),
    );
  });
  after(() => removeFolder(folder));

  const at = (run: string, clock: number): Contents => contents[run]?.get(clock) ?? assert.fail();

  it('ends with the same digests on 1, 2 and 3 servers, and killed in the middle and resumed', async () => {
    const { one, ...others } = results;
    assert.ok(one);
    const losses = async ({ runDirectory }: RunResult): Promise<number[]> =>
      (await readMetrics(runDirectory)).map(({ loss }) => loss);
    const expected = await losses(one);
    assert.equal(expected.length, STEPS);
    assert.ok((expected.at(-1) ?? 9) < 0.7 * (expected[0] ?? 0), `it learns: ${expected[0]} to ${expected.at(-1)}`);
    for (const [name, result] of Object.entries(others)) {
      assert.deepEqual(digestsOf(result), digestsOf(one), name);
      assert.deepEqual(await losses(result), expected, name);
    }
  });

  for (const technique of TECHNIQUES) {
    const { name, rule } = technique;
    const parameters = [`${name}_a/kernel`, `${name}_a/bias`, `${name}_b/kernel`, `${name}_b/bias`];
    it(`${name}: the same mask, weights and slots in every checkpoint, and as many dead as the schedule says`, () => {
      for (const clock of CLOCKS) {
        const expected = at('one', clock).digest(parameters);
        for (const run of ['two', 'three', 'resumed'])
          assert.equal(at(run, clock).digest(parameters), expected, `${run} at step ${clock}`);
      }
      for (const [clock, dead] of Object.entries(technique.dead))
        assert.deepEqual(deadIn(technique, at('one', Number(clock))), dead, `at step ${clock}`);
      if ('regrowth' in rule)
        assert.ok(comesBack(technique, at('one', 30), at('one', 45)) > 10, 'dead elements that came back');
      if ('straightThrough' in rule) assert.ok(comesBack(technique, at('one', 15), at('one', 30)) > 0);
    });
  }

  it('leaves out no name that a run file may give', () => {
    for (const [axis, names] of Object.entries(namesInSchema())) {
      const tried = new Set(TECHNIQUES.map(({ rule }) => namesOfRule(rule)[axis as Axis]));
      assert.deepEqual([...tried].sort(), names, axis);
    }
  });
});

function kernelsOf({ name }: Technique): [string, string] {
  return [`${name}_a/kernel`, `${name}_b/kernel`];
}

/** In the form of the table. */
function deadIn(technique: Technique, contents: Contents): number | number[] {
  const counts = kernelsOf(technique).map((kernel) => contents.dead(kernel));
  return typeof technique.dead[STEPS] === 'number' ? counts.reduce((a, b) => a + b) : counts;
}

function comesBack(technique: Technique, before: Contents, after: Contents): number {
  return kernelsOf(technique).reduce((sum, kernel) => {
    const [was, is] = [before.alive(kernel), after.alive(kernel)];
    return sum + was.filter((alive, i) => alive === 0 && is[i] === 1).length;
  }, 0);
}
