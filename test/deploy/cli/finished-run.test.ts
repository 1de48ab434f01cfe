import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ListedRun } from '../../../deploy/cli/commands/list.ts';
import type { RunResult, RunStatus } from '../../../shared/telemetry/run-status.ts';
import { finish, goldenRunFile, readMetrics, whittle, writeRunFile } from '../../cluster/support.ts';
import { cli } from './run.ts';

/** Commands that read runs, against one that the compiled command line has trained. */
describe('a finished run', function () {
  this.timeout(300_000);
  let folder: string;
  let runs: string;
  let runFile: string;
  let result: RunResult;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'whittle-finished-'));
    runs = join(folder, 'runs');
    const base = goldenRunFile({ servers: 2, workers: 1, slices: 2 });
    runFile = await writeRunFile(folder, {
      ...base,
      training: { ...(base['training'] as object), evaluateEvery: 30 },
    });
    result = await finish(['launch', runFile, '--runs-dir', runs, '--run-id', 'mine']);
  });
  after(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));

  /** Output of a command that must end well; its JSON where asked for. */
  async function read(...argv: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await cli([...argv, '--runs-dir', runs]);
    assert.equal(exitCode, 0, stderr);
    return stdout;
  }

  it('gave the result that result.json holds', async () => {
    assert.equal(result.state, 'SUCCEEDED');
    assert.deepEqual(JSON.parse(await readFile(join(result.runDirectory, 'result.json'), 'utf8')), result);
    assert.equal(result.evaluatedAt, 60);
    assert.ok(result.testLoss !== null && result.testLoss > 0);
    assert.equal(result.checkpoint, join(result.runDirectory, 'checkpoints', 'step-00000060-g1'));
    const { bytesPushed, bytesPulled } = (await readMetrics(result.runDirectory)).at(-1) ?? assert.fail();
    assert.equal(result.bytesPerStep, bytesPushed + bytesPulled);
  });

  it('list: shows it, and a damaged one beside it hides nothing', async () => {
    const [listed] = JSON.parse(await read('list', '--json')) as ListedRun[];
    const { runId, state, step, totalSteps, testAccuracy, sparsity, runDirectory } = listed as ListedRun;
    assert.deepEqual(
      [runId, state, step, totalSteps, runDirectory],
      ['mine', 'SUCCEEDED', 60, 60, result.runDirectory],
    );
    assert.deepEqual([testAccuracy, sparsity], [result.testAccuracy, result.sparsity]);
    const lines = (await read('list')).trimEnd().split('\n');
    assert.match(lines[0] ?? '', /^RUN +STATE +STEP +ACCURACY +SPARSITY +UPDATED$/);
    assert.match(lines[1] ?? '', /^mine +SUCCEEDED +60\/60 +\d+\.\d\d % +79\.95 % +\d.* ago$/);
    assert.deepEqual(lines.slice(2), ['', `1 run in ${runs}`]);
  });

  it('list and status: one that its launcher refused tells why, though it has no status', async () => {
    const refused = join(runs, 'refused');
    await mkdir(refused);
    await cp(join(result.runDirectory, 'run.yaml'), join(refused, 'run.yaml'));
    const failure = { role: 'scheduler', rank: 0, code: 'USAGE', message: 'no Slurm here', stack: '', step: 0 };
    const written = { ...result, runId: 'refused', runDirectory: refused, state: 'FAILED', step: 0, failure };
    await writeFile(join(refused, 'result.json'), JSON.stringify(written));
    try {
      const listed = JSON.parse(await read('list', '--json')) as ListedRun[];
      assert.equal(listed.find(({ runId }) => runId === 'refused')?.state, 'FAILED');
      assert.equal(await read('status', 'refused'), 'run refused is FAILED: no Slurm here\n');
      assert.deepEqual(JSON.parse(await read('status', 'refused', '--json')), written);
    } finally {
      await rm(refused, { recursive: true });
    }
  });

  it('resume: takes more epochs as more steps, and says where they are no more', async () => {
    const plan = await read('resume', 'mine', '--set', 'training.epochs=1000', '--dry-run');
    const [, steps = ''] = /^steps +(\d[\d,]+) \(1,?000 epochs of .* examples\)/m.exec(plan) ?? [];
    assert.match(plan, /continues from step 60$/m);
    const perEpoch = Number(steps.replaceAll(',', '')) / 1000;
    const fewer = `training.epochs=${55 / perEpoch}`;
    assert.match(await read('resume', 'mine', '--set', fewer), /^Run mine finished at step 60 of 60$/m);
  });

  it('launch: refuses a fault that would never come', async () => {
    const faults = join(folder, 'faults.txt');
    await writeFile(faults, 'at step 61 kill worker[0]\n');
    const { exitCode, stderr } = await cli(['launch', runFile, '--dry-run', '--faults', faults]);
    assert.equal(exitCode, 2);
    assert.match(stderr, /the fault at step 61 would never come: the run ends at step 60/);
  });

  it('list: an empty folder is no error', async () => {
    const empty = join(folder, 'none');
    assert.equal(
      (await cli(['list', '--runs-dir', empty])).stdout,
      `no runs in ${empty}; start one with: npx --no-install whittle launch run.yaml, or name another folder with --runs-dir\n`,
    );
    assert.equal((await cli(['list', '--runs-dir', empty, '--json'])).stdout, '[]\n');
  });

  it('status: shows the newest run, by id or directory, as text and JSON', async () => {
    const status = JSON.parse(await read('status', '--json')) as RunStatus;
    assert.deepEqual([status.runId, status.state, status.step, status.totalSteps], ['mine', 'SUCCEEDED', 60, 60]);
    const text = await read('status', 'mine');
    for (const line of [
      /^run +mine$/m,
      /^state +SUCCEEDED$/m,
      /^step +60 of 60 \(100 %\)$/m,
      /^sparsity +79\.95 %, target 79\.95 %, mask \d+$/m,
      /^last checkpoint +step 60, .* ago$/m,
    ]) {
      assert.match(text, line);
    }
    assert.match(await read('status', result.runDirectory, '--watch'), /^state +SUCCEEDED$/m);
  });

  it('status, logs, export: a run that is not there is named, with those that are; exit code 2', async () => {
    for (const argv of [
      ['status', 'mien'],
      ['logs', 'mien'],
      ['stop', 'mien'],
      ['inspect', 'mien'],
      ['export', 'mien'],
    ]) {
      const { exitCode, stderr } = await cli([...argv, '--runs-dir', runs]);
      assert.equal(exitCode, 2, argv.join(' '));
      assert.match(stderr, /^error: \[RUN_UNKNOWN\] .*mien.*\bmine\b/s, argv.join(' '));
    }
  });

  it('logs: every role, merged by time; one role; the last lines; JSON lines', async () => {
    const all = (await read('logs', 'mine', '--json')).trimEnd().split('\n');
    const lines = all.map((line) => JSON.parse(line) as { role: string; rank: number; time: string });
    const members = new Set(lines.map(({ role, rank }) => `${role}[${rank}]`));
    assert.deepEqual([...members].sort(), ['scheduler[0]', 'server[0]', 'server[1]', 'worker[0]']);
    const times = lines.map(({ time }) => time);
    assert.deepEqual(times, [...times].sort());
    const server = (await read('logs', 'mine', '--role', 'server', '--rank', '1', '--json')).trimEnd().split('\n');
    assert.equal(server.length, lines.filter(({ role, rank }) => role === 'server' && rank === 1).length);
    const tail = (await read('logs', 'mine', '--tail', '3', '--json')).trimEnd().split('\n');
    assert.deepEqual(tail, all.slice(-3));
    assert.equal((await read('logs', 'mine', '--follow', '--json')).trimEnd().split('\n').length, all.length);
    assert.match(await read('logs', 'mine', '--role', 'worker'), /W\[0\]/);
  });

  it('inspect: the digests and layers of the result', async () => {
    const shown = JSON.parse(await read('inspect', 'mine', '--json')) as RunResult & { step: number };
    assert.deepEqual(
      [shown.step, shown.weightsDigest, shown.maskDigest, shown.stateDigest, shown.layers],
      [60, result.weightsDigest, result.maskDigest, result.stateDigest, result.layers],
    );
    const text = await read('inspect', 'mine', '--step', '45');
    assert.match(text, /^run +mine, step 40, generation 1, mask \d+$/m);
  });

  it('inspect, resume: a step without a checkpoint names those there are', async () => {
    const older = await cli(['inspect', 'mine', '--step', '45', '--runs-dir', runs]);
    assert.equal(
      older.stderr,
      'note: there is no checkpoint of step 45, that of step 40 is taken; there are those of steps 20, 40, 60\n',
    );
    assert.equal((await cli(['inspect', 'mine', '--step', '40', '--runs-dir', runs])).stderr, '');
    for (const command of ['inspect', 'evaluate', 'resume']) {
      const { exitCode, stderr } = await cli([command, 'mine', '--step', '19', '--runs-dir', runs]);
      assert.equal(exitCode, 1, command);
      assert.match(
        stderr,
        /\[CHECKPOINT\] .* holds no usable checkpoint of step 19 or before; there are those of steps 20, 40, 60$/m,
        command,
      );
    }
  });

  it('evaluate and export agree with the result, from the compiled command line', async () => {
    const evaluated = await whittle(['evaluate', 'mine', '--runs-dir', runs, '--json']);
    assert.equal(evaluated.code, 0, evaluated.stderr);
    const { testAccuracy } = JSON.parse(evaluated.stdout) as { testAccuracy: number };
    assert.equal(testAccuracy, result.testAccuracy);

    const out = join(folder, 'exported');
    const argv = ['export', 'mine', '--runs-dir', runs, '--out', out];
    const exported = await whittle([...argv, '--json']);
    assert.equal(exported.code, 0, exported.stderr);
    const written = JSON.parse(exported.stdout) as { weightsDigest: string; out: string; clock: number };
    assert.deepEqual([written.out, written.clock, written.weightsDigest], [out, 60, result.weightsDigest]);
    assert.deepEqual((await readdir(out)).sort(), ['export-manifest.json', 'model.json', 'weights.bin']);

    const refused = await whittle(argv);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /\[USAGE\] .*exported exists; .*--force/);
    const replaced = await whittle([...argv, '--force', '--format', 'safetensors']);
    assert.equal(replaced.code, 0, replaced.stderr);
    assert.match(replaced.stdout, /^model\.safetensors +\S+ kB, sha256 [0-9a-f]{64}$/m);
    assert.deepEqual((await readdir(out)).sort(), ['export-manifest.json', 'model.safetensors']);
  });

  it('export: goes back to an older checkpoint where the newest is damaged, and says so', async () => {
    const checkpoints = join(result.runDirectory, 'checkpoints');
    const newest =
      (await readdir(checkpoints))
        .filter((name) => name.startsWith('step-'))
        .sort()
        .at(-1) ?? '';
    const shard = join(checkpoints, newest, 'shard-0.safetensors');
    const whole = await readFile(shard);
    await writeFile(shard, whole.subarray(0, whole.length - 1));
    try {
      const argv = ['export', 'mine', '--runs-dir', runs, '--format', 'safetensors', '--out', join(folder, 'older')];
      const { exitCode, stdout, stderr } = await cli([...argv, '--json']);
      assert.equal(exitCode, 0, stderr);
      assert.equal((JSON.parse(stdout) as { clock: number }).clock, 40);
      assert.match(stderr, new RegExp(`warning: .*${newest}.*truncated`));
      const named = await cli(['export', join(checkpoints, newest), '--out', join(folder, 'damaged')]);
      assert.equal(named.exitCode, 1);
      assert.match(named.stderr, /\[CHECKPOINT\] .*truncated/);
    } finally {
      await writeFile(shard, whole);
    }
  });

  it('export: says when a checkpoint was never evaluated', async () => {
    const argv = ['export', 'mine', '--runs-dir', runs, '--step', '45', '--format', 'safetensors'];
    const { stdout } = await cli([...argv, '--out', join(folder, 'unevaluated')]);
    assert.match(
      stdout,
      /^test accuracy +not known: this checkpoint was not evaluated, .* whittle evaluate .*step-.*40/m,
    );
    const known = await cli(['export', 'mine', '--runs-dir', runs, '--out', join(folder, 'evaluated')]);
    assert.match(known.stdout, /^test accuracy +\d+\.\d\d %$/m);
  });

  it('sensitivity: the accuracy of evaluate at 0, that of a pruned layer elsewhere, as table and curves', async () => {
    interface Shown {
      testAccuracy: number;
      layers: { name: string; size: number; survivors: number; points: Record<string, number>[] }[];
    }
    const all = JSON.parse(await read('sensitivity', 'mine', '--points', '0,1', '--json')) as Shown;
    assert.equal(all.testAccuracy, result.testAccuracy);
    const prunable = result.layers.filter(({ name }) => name.endsWith('/kernel'));
    assert.deepEqual(
      all.layers.map(({ name, survivors }) => [name, survivors]),
      prunable.map(({ name, survivors }) => [name, survivors]),
    );
    for (const { size, survivors, points } of all.layers) {
      assert.deepEqual(points[0], {
        ...{ sparsity: 0, removed: size - survivors },
        ...{ testAccuracy: result.testAccuracy, testLoss: result.testLoss },
      });
      assert.equal(points[1]?.['removed'], size);
      assert.ok((points[1]?.['testLoss'] ?? 0) > (result.testLoss ?? 0), 'without the layer the loss is larger');
    }
    const text = await read('sensitivity', 'mine', '--layers', 'dense_2/*', '--points', '0.5,0.99');
    assert.match(text, /^PARAMETER +SIZE +SPARSITY NOW +50 % +99 %$/m);
    assert.match(text, /^dense_2\/kernel +[\d,]+ +\d+\.\d\d % +\d+\.\d\d % +\d+\.\d\d %$/m);
    assert.match(text, /^b {2}dense_2\/bias$/m);
    for (const [argv, message] of [
      [['--layers', 'conv*'], /\[USAGE\] --layers conv\* matches none of the parameters: dense_1\/kernel, /],
      [['--points', '0,1.5'], /\[USAGE\] --points 0,1\.5: "1\.5" is no sparsity from 0 to 1/],
    ] as const) {
      const { exitCode, stderr } = await cli(['sensitivity', 'mine', ...argv, '--runs-dir', runs]);
      assert.equal(exitCode, 2);
      assert.match(stderr, message);
    }
  });

  it('inspect: dead units and what changed since the checkpoint before', async () => {
    const [first] = result.layers;
    assert.ok(first !== undefined && first.units > 0);
    assert.equal(first.churn?.since, 40);
    assert.equal(first.bytes, 4 * first.survivors);
    const total = result.layers.reduce((sum, { size }) => sum + size, 0);
    const dead = result.layers.reduce((sum, { size, survivors }) => sum + size - survivors, 0);
    assert.ok(Math.abs((result.parameterSparsity ?? 0) - dead / total) < 1e-12);
    assert.match(await read('inspect', 'mine'), /^sparsity +79\.95 %, \d+\.\d\d % of all parameters$/m);
    assert.match(await read('inspect', 'mine'), / DEAD UNITS +BYTES +CHURN SINCE 40$/m);
  });

  it('resume: going back from its end needs --again', async () => {
    const back = ['resume', 'mine', '--runs-dir', runs, '--step', '45', '--dry-run'];
    const { exitCode, stderr } = await cli(back);
    assert.equal(exitCode, 2, stderr);
    assert.match(
      stderr,
      /\[USAGE\] run mine is finished: going back to step 40 .* steps 41 to 60 .*; add --again to do that/,
    );
    const again = await cli([...back, '--again', '--json']);
    assert.equal(again.exitCode, 0, again.stderr);
    assert.equal((JSON.parse(again.stdout) as { resumedFrom: number }).resumedFrom, 40);
    // Nothing to go back to, nothing to throw away.
    for (const harmless of [['--step', '60'], ['--again']])
      assert.match(await read('resume', 'mine', ...harmless), /Run mine finished at step 60 of 60/);
    const longer = await read('resume', 'mine', '--step', '60', '--set', 'training.steps=80', '--dry-run');
    assert.match(longer, /continues from step 60/);
  });

  it('resume: says plainly that the last checkpoint is damaged, and goes back only with --again', async () => {
    const checkpoints = join(result.runDirectory, 'checkpoints');
    const names = (await readdir(checkpoints)).filter((name) => name.startsWith('step-')).sort();
    const shard = join(checkpoints, names.at(-1) ?? '', 'shard-0.safetensors');
    const whole = await readFile(shard);
    await writeFile(shard, whole.subarray(0, whole.length - 1));
    try {
      for (const argv of [[], ['--set', 'training.steps=80']]) {
        const { exitCode, stderr } = await cli(['resume', 'mine', '--runs-dir', runs, ...argv]);
        assert.equal(exitCode, 1, stderr);
        assert.match(
          stderr,
          /\[CHECKPOINT\] run mine is finished at step 60, but its last checkpoint is damaged .* step 40/,
        );
        assert.match(stderr, new RegExp(`${names.at(-1)} is skipped: .*truncated`));
        assert.match(stderr, /whittle resume .*mine --again/);
      }
      const again = await cli(['resume', 'mine', '--runs-dir', runs, '--again', '--dry-run', '--json']);
      assert.equal(again.exitCode, 0, again.stderr);
      assert.equal((JSON.parse(again.stdout) as { resumedFrom: number }).resumedFrom, 40);
    } finally {
      await writeFile(shard, whole);
    }
  });

  it('launch refuses its id a second time, also when it only plans', async () => {
    const argv = ['launch', join(folder, 'run.yaml'), '--runs-dir', runs, '--run-id', 'mine'];
    for (const more of [[], ['--dry-run']]) {
      const { exitCode, stderr } = await cli([...argv, ...more]);
      assert.equal(exitCode, 2);
      assert.match(stderr, /\[RUN_EXISTS\] .*mine/);
    }
  });
});

describe('whittle launch --dry-run', () => {
  it('accepts what init writes, prints the plan and makes nothing', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'whittle-dry-'));
    try {
      assert.equal((await cli(['init', folder])).exitCode, 0);
      const before = await readdir(folder);
      const argv = [
        'launch',
        join(folder, 'run.yaml'),
        '--dry-run',
        '--run-id',
        'tried',
        '--runs-dir',
        join(folder, 'runs'),
      ];
      const { exitCode, stdout, stderr } = await cli(argv);
      assert.equal(exitCode, 0, stderr);
      assert.match(stdout, /^run +tried$/m);
      assert.match(stdout, /^PARAMETER +SHAPE +LAYER +SIZE +SPARSITY RULE$/m);
      const plan = JSON.parse((await cli([...argv, '--json'])).stdout) as { runId: string; steps: number };
      // ceil(15 epochs x 3000 examples / 64)
      assert.deepEqual([plan.runId, plan.steps], ['tried', 704]);
      assert.deepEqual(await readdir(folder), before);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
