import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseRunConfig } from '../../../shared/config/effective.ts';
import { packageRoot } from '../../../shared/package-root.ts';
import { cli } from './run.ts';

const EXAMPLES = join(packageRoot, 'deploy', 'examples');

describe('whittle init', () => {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'whittle-init-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  it('writes a run file, model and data that a run would accept', async () => {
    const target = join(folder, 'deep', 'mine');
    const made = await cli(['init', target, '--json']);
    assert.equal(made.exitCode, 0, made.stderr);
    assert.deepEqual(JSON.parse(made.stdout), { directory: target, files: ['run.yaml', 'model.ts', 'data.ts'] });
    const config = await cli(['config', join(target, 'run.yaml')]);
    assert.equal(config.exitCode, 0, config.stderr);
    assert.equal(config.stderr, '');
    // ceil(15 epochs x 3000 examples / 64) = ceil(703.125)
    assert.equal(parseRunConfig(config.stdout).training.steps, 704);
  });

  it('links to the JSON schema from where it writes', async () => {
    await cli(['init', folder]);
    const link = /\$schema=(\S+)/.exec(readFileSync(join(folder, 'run.yaml'), 'utf8'))?.[1] ?? '';
    assert.ok(existsSync(resolve(folder, link)), link);
  });

  it('overwrites only with --force', async () => {
    writeFileSync(join(folder, 'model.ts'), 'mine');
    const refused = await cli(['init', folder]);
    assert.equal(refused.exitCode, 2);
    assert.match(refused.stderr, /model\.ts in .* would be overwritten; .*--force/);
    assert.equal(readFileSync(join(folder, 'model.ts'), 'utf8'), 'mine');
    assert.deepEqual(readdirSync(folder), ['model.ts']);
    assert.equal((await cli(['init', folder, '--force'])).exitCode, 0);
    assert.match(readFileSync(join(folder, 'model.ts'), 'utf8'), /export function model/);
  });

  it('copies an example with the files that it needs, linked to the JSON schema', async () => {
    for (const [name, files] of [
      ['lottery-ticket', ['run.yaml']],
      ['recalibrate', ['run.yaml', 'normalized-model.ts']],
      ['logistic-regression-csv', ['run.yaml', 'measurements-test.csv', 'measurements-train.csv']],
    ] as const) {
      const target = join(folder, name);
      const made = await cli(['init', target, '--example', name, '--json']);
      assert.equal(made.exitCode, 0, made.stderr);
      assert.deepEqual(JSON.parse(made.stdout), { directory: target, files });
      assert.deepEqual(readdirSync(target).sort(), [...files].sort());
      const text = readFileSync(join(target, 'run.yaml'), 'utf8');
      assert.ok(existsSync(resolve(target, /\$schema=(\S+)/.exec(text)?.[1] ?? '')));
      assert.match(text, /^# {3}whittle launch run\.yaml$/m);
      const config = await cli(['config', join(target, 'run.yaml')]);
      assert.deepEqual([config.exitCode, config.stderr], [0, '']);
    }
  });

  it('names the examples, and the nearest to one that is not there', async () => {
    const { examples } = JSON.parse((await cli(['init', '--list', '--json'])).stdout) as {
      examples: { name: string; about: string }[];
    };
    const files = readdirSync(EXAMPLES).filter((name) => name.endsWith('.yaml'));
    assert.deepEqual(
      examples.map(({ name }) => `${name}.yaml`),
      files.sort(),
    );
    for (const { name, about } of examples) assert.ok(about.length > 20, name);
    const { stdout } = await cli(['init', '--list']);
    assert.match(stdout, /^set +Sparse from the first step to the last \(SET, Mocanu et al\. 2018\): [^.]*\.$/m);
    const { exitCode, stderr } = await cli(['init', folder, '--example', 'lotery-ticket']);
    assert.equal(exitCode, 2);
    assert.match(stderr, /--example lotery-ticket: there is no such example; did you mean lottery-ticket\?/);
    assert.deepEqual(readdirSync(folder), []);
  });

  it('says so where it cannot write', async () => {
    const { exitCode, stderr } = await cli(['init', join(EXAMPLES, 'lenet-5.yaml', 'x')]);
    assert.equal(exitCode, 2);
    assert.match(stderr, /cannot write into .*lenet-5\.yaml/);
  });
});

describe('whittle config', () => {
  it('prints the effective file, with overrides, as YAML and JSON alike', async () => {
    const argv = ['config', join(EXAMPLES, 'logistic-regression-csv.yaml'), '--set', 'training.steps=500'];
    const yaml = await cli(argv);
    const json = await cli([...argv, '--json']);
    assert.equal(yaml.exitCode, 0, yaml.stderr);
    const config = parseRunConfig(yaml.stdout);
    assert.deepEqual(JSON.parse(json.stdout), config);
    assert.equal(config.training.steps, 500);
    assert.deepEqual(config.cluster, {
      servers: 1,
      workers: { min: 2, max: 2 },
      backend: config.cluster.backend,
      replication: 0,
      orphanAfterSeconds: 120,
      slices: 2,
    });
  });

  it('shows a mistake with its place, and exits with 2', async () => {
    const file = join(EXAMPLES, 'lenet-300-100.yaml');
    const { exitCode, stderr } = await cli(['config', file, '--set', 'training.optimizer.kind=adan']);
    assert.equal(exitCode, 2);
    assert.equal(
      stderr,
      'error: [RUN_FILE] --set training.optimizer.kind=adan: training.optimizer.kind must be one of sgd, adam, adamw, rmsprop, adagrad, is "adan"; did you mean adam?\n',
    );
  });
});

describe('whittle schedule', () => {
  // 24 kernel elements; updates at 150, 175 .. 400 (11 of them), from 0 to 75 %, cubic.
  const argv = ['schedule', join(EXAMPLES, 'logistic-regression-csv.yaml')];

  it('counts every update', async () => {
    const { stdout, exitCode, stderr } = await cli([...argv, '--json']);
    assert.equal(exitCode, 0, stderr);
    const { updates, prunable, parameters } = JSON.parse(stdout) as {
      updates: { step: number; removed: number; survivors: number; targets: number[] }[];
      prunable: number;
      parameters: number;
    };
    assert.deepEqual([prunable, parameters, updates.length], [24, 26, 11]);
    assert.deepEqual(updates[0], { step: 150, targets: [0], removed: 0, survivors: 24, sparsity: 0 });
    // Step 275 is half way: 0.75 x (1 - 0.5^3) = 0.65625, of 24 elements 15.75, rounded 16.
    assert.deepEqual(updates[5], { step: 275, targets: [0.65625], removed: 16, survivors: 8, sparsity: 16 / 24 });
    assert.deepEqual(updates[10], { step: 400, targets: [0.75], removed: 18, survivors: 6, sparsity: 0.75 });
  });

  it('prints a table and a curve', async () => {
    const { stdout } = await cli([...argv, '--rows', '3']);
    const lines = stdout.split('\n');
    assert.equal(lines[0], 'measurements: 24 of 26 parameters prunable, 11 mask updates in 600 steps');
    assert.deepEqual(lines.slice(2, 7), [
      'STEP    TARGET   REMOVED   SURVIVORS',
      ' 150    0.00 %         0          24',
      ' 275   65.63 %        16           8',
      ' 400   75.00 %        18           6',
      '(8 of 11 updates not shown; --rows 11 shows all)',
    ]);
    assert.match(stdout, / {2}80 % \|/);
  });

  it('tells what each parameter comes to where it is ranked within itself', async () => {
    const { stdout } = await cli(['schedule', join(EXAMPLES, 'lenet-300-100.yaml'), '--set', 'sparsity.0.scope=layer']);
    assert.match(stdout, /PARAMETER +ELEMENTS +AT THE END\ndense_1\/kernel +235,200 +95.00 %\n/);
    assert.doesNotMatch((await cli(argv)).stdout, /AT THE END/);
  });

  it('shows dense phases', async () => {
    const cyclic = '{kind: cyclic, finalSparsity: 0.5, beginStep: 0, endStep: 300, sparseSteps: 100, denseSteps: 50}';
    const { stdout } = await cli([...argv, '--json', '--set', `sparsity.0.schedule=${cyclic}`]);
    const { updates } = JSON.parse(stdout) as { updates: { step: number; removed: number }[] };
    assert.deepEqual(
      updates.map(({ step, removed }) => [step, removed]),
      [
        [0, 12],
        [100, 0],
        [150, 12],
        [250, 0],
        [300, 12],
      ],
    );
  });

  it('says that a run without rules stays dense', async () => {
    assert.match(
      (await cli([...argv, '--set', 'sparsity=[]'])).stdout,
      /no sparsity rules, the run stays dense \(26 parameters\)/,
    );
  });
});

describe('examples', () => {
  const names = readdirSync(EXAMPLES).filter((name) => name.endsWith('.yaml'));
  it('are there', () => assert.ok(names.length >= 3));

  /** These go on from the run `dense-mnist` of dense.yaml. */
  const followers = names.filter((name) =>
    /(from|teacher): dense-mnist/.test(readFileSync(join(EXAMPLES, name), 'utf8')),
  );
  assert.ok(followers.length > 0);
  for (const name of followers) {
    it(`${name} names the run that it needs`, async () => {
      const { exitCode, stderr } = await cli(['config', join(EXAMPLES, name)]);
      assert.match(stderr, /dense-mnist is neither a run in/);
      assert.equal(exitCode, 2);
    });
  }

  for (const name of names.filter((each) => !each.startsWith('fashion') && !followers.includes(each))) {
    it(`${name} resolves without a warning`, async () => {
      const { exitCode, stderr } = await cli(['config', join(EXAMPLES, name)]);
      assert.equal(stderr, '');
      assert.equal(exitCode, 0);
    });
  }

  for (const name of [...names, 'starter/run.yaml']) {
    it(`${name} links to the JSON schema`, () => {
      const path = join(EXAMPLES, name);
      const link = /\$schema=(\S+)/.exec(readFileSync(path, 'utf8'))?.[1] ?? '';
      assert.ok(existsSync(resolve(dirname(path), link)));
    });
  }

  it('lenet-300-100 is the job of the design: 12 epochs of 468 steps to 95 %', async () => {
    const config = parseRunConfig((await cli(['config', join(EXAMPLES, 'lenet-300-100.yaml')])).stdout);
    assert.deepEqual(
      [
        config.seed,
        config.training.steps,
        config.data.batchSize,
        config.cluster.servers,
        config.cluster.workers.max,
        config.training.evaluateEvery,
      ],
      [1, 5616, 128, 2, 2, 468],
    );
    assert.deepEqual(config.sparsity[0]?.schedule, {
      kind: 'polynomial',
      initialSparsity: 0,
      finalSparsity: 0.95,
      beginStep: 468,
      endStep: 3931,
      frequency: 100,
      power: 3,
    });
    assert.deepEqual(config.training.optimizer, {
      kind: 'adam',
      learningRate: 0.001,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
    });
    assert.deepEqual(config.checkpoint, { every: 500, keep: 3 });
  });
});
