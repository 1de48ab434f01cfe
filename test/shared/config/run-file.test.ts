import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadRunFile, parseRunFile, runFileError } from '../../../shared/config/run-file.ts';
import { BAD_LINES, schedule, TRAINING } from './bad-lines.ts';
import { assertSays, runFileErrorOf, VALID } from './helpers.ts';

describe('loadRunFile', () => {
  for (const { name, line, text, says } of BAD_LINES) {
    it(`refuses: ${name}`, () => {
      const lines = VALID.split('\n');
      lines[line - 1] = text;
      const error = runFileErrorOf(() => parseRunFile(lines.join('\n'), 'run.yaml'));
      assertSays(error, says);
      // Nothing of the schema library's own wording may come through.
      assert.doesNotMatch(error.message, /Invalid input|expected|zod/i);
    });
  }

  it('accepts the file that all of them change', () => {
    assert.equal(parseRunFile(VALID, 'run.yaml').document.training.steps, 1000);
    assert.ok(VALID.includes(TRAINING));
  });

  it('names what is wrong with the steps of a schedule beside what else is wrong with it', () => {
    const wrong = (inner: string): readonly string[] => {
      const text = VALID.replace(/schedule: .*/, schedule(inner).trim());
      const { problems } = runFileErrorOf(() => parseRunFile(text, 'run.yaml')).data as {
        problems: { message: string }[];
      };
      return problems.map(({ message }) => message.replace(/;.*/, '').replace('sparsity.0.schedule', ''));
    };
    assert.deepEqual(wrong('finalSparsity: 0.9, beginStep: 1200, endStep: 1100'), [
      ': beginStep 1200 is beyond the run, which has 1000 steps',
      ': endStep 1100 is beyond the run, which has 1000 steps',
    ]);
    assert.deepEqual(wrong('finalSparsity: 95, beginStep: 1200'), [
      '.finalSparsity must be a number >= 0 and < 1, is 95',
      ': beginStep 1200 is beyond the run, which has 1000 steps',
    ]);
    assert.deepEqual(wrong('finalSparsity: 95, beginStep: 800, endStep: 700'), [
      '.finalSparsity must be a number >= 0 and < 1, is 95',
      ': beginStep 800 must be <= endStep 700',
    ]);
    // What endStep should have been is not known: the default is not held against beginStep.
    assert.deepEqual(wrong('finalSparsity: 0.9, beginStep: 800, endStp: 900'), ['unknown key "endStp" in ']);
  });

  it('gives the default of endStep as a cure only where it is in force', () => {
    const cure = (inner: string): string =>
      runFileErrorOf(() =>
        parseRunFile(VALID.replace(/schedule: .*/, schedule(inner).trim()), 'run.yaml'),
      ).message.split('\n')[0] ?? '';
    assert.match(cure('finalSparsity: 0.9, beginStep: 800'), /; endStep is 75% where it is not given$/);
    assert.match(cure('finalSparsity: 0.9, beginStep: 800, endStep: 700'), /; lower beginStep or raise endStep$/);
    assert.match(cure('finalSparsity: 0.9, beginStep: 1200'), /; lower beginStep or train longer$/);
  });

  it('tells a slip of YAML once, though the parser stumbles over it again', () => {
    for (const text of ['name: x\n  seed: 1\n', '- a\nb: c\n']) {
      const { message, data: told } = runFileErrorOf(() => parseRunFile(text, 'run.yaml'));
      assert.equal((told['problems'] as unknown[]).length, 1, message);
      assert.doesNotMatch(message, /problems/);
    }
  });

  it('names all problems at once, in the order of the file, each with its line and a mark', () => {
    const text = 'sead: 1\nmodel: 3\ndata: { source: mnist, batchSize: two }\ntraining: {}\n';
    const error = runFileErrorOf(() => parseRunFile(text, 'a/run.yaml'));
    assert.deepEqual(error.message.split('\n'), [
      '[RUN_FILE] 4 problems in a/run.yaml',
      'a/run.yaml:1:1: unknown key "sead"; did you mean seed?',
      '  1 | sead: 1',
      '    | ^',
      'a/run.yaml:2:8: model must be a built-in such as lenet-300-100, or a module such as ./model.ts, is 3',
      '  2 | model: 3',
      '    |        ^',
      'a/run.yaml:3:35: data.batchSize must be a whole number >= 1, is "two"',
      '  3 | data: { source: mnist, batchSize: two }',
      '    |                                   ^',
      'a/run.yaml:4:11: training needs its length; add steps, such as 1000, or epochs, such as 12',
      '  4 | training: {}',
      '    |           ^',
    ]);
    assert.deepEqual(error.data['file'], 'a/run.yaml');
    assert.deepEqual((error.data['problems'] as unknown[])[2], {
      message: 'data.batchSize must be a whole number >= 1, is "two"',
      path: 'data.batchSize',
      line: 3,
      column: 35,
    });
  });

  it('finds values behind anchors', () => {
    const text = VALID + 'cluster: &c { workers: none }\nwire: *c\n';
    assertSays(
      runFileErrorOf(() => parseRunFile(text, 'run.yaml')),
      ['run.yaml:9:24: cluster.workers must be a whole number', 'run.yaml:9:15: unknown key "workers" in wire'],
    );
  });

  it('cuts long lines around the mark', () => {
    const text = `model: lenet-5 # ${'x'.repeat(300)}\ndata: { order: shuffled,${' '.repeat(300)}source: mnist, batchSize: two }\ntraining: { steps: 1 }\n`;
    const shown = runFileErrorOf(() => parseRunFile(text, 'run.yaml')).message.split('\n');
    assert.ok(shown.every((line) => line.length < 200));
    assert.equal(shown[1]?.slice((shown[2] as string).indexOf('^')).startsWith('two'), true);
  });

  it('refuses an empty file, a lone comment, a list, and bombs', () => {
    for (const text of ['', '\n', '# nothing yet\n']) {
      assertSays(
        runFileErrorOf(() => parseRunFile(text, 'run.yaml')),
        ['run.yaml:1:1', 'the file is empty', 'whittle init'],
      );
    }
    assertSays(
      runFileErrorOf(() => parseRunFile('- 1\n', 'run.yaml')),
      ['run.yaml:1:1', 'the run file must be a mapping'],
    );
    const bomb = [
      'a: &a [x,x,x,x,x,x,x,x,x]',
      ...'bcdefgh'.split('').map((key, k) => `${key}: &${key} [${`*${'abcdefgh'[k]},`.repeat(9)}]`),
    ].join('\n');
    assertSays(
      runFileErrorOf(() => parseRunFile(bomb, 'run.yaml')),
      ['alias'],
    );
    assertSays(
      runFileErrorOf(() => parseRunFile(`#${'x'.repeat(1 << 20)}`, 'run.yaml')),
      ['1048577 characters'],
    );
    assertSays(
      runFileErrorOf(() => parseRunFile('__proto__: { polluted: 1 }\n' + VALID, 'run.yaml')),
      ['unknown key "__proto__"'],
    );
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  });

  it('takes errors that others find, at the key that is wrong', () => {
    const runFile = parseRunFile(VALID, 'run.yaml');
    assertSays(runFileError(runFile, ['model'], 'no such model'), [
      'run.yaml:1:8: no such model\n  1 | model: lenet-300-100',
    ]);
  });

  describe('from disk', () => {
    let folder: string;
    beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'whittle-config-'))));
    afterEach(() => rmSync(folder, { recursive: true }));

    it('takes paths from the folder of the file', () => {
      const path = join(folder, 'my run.yaml');
      writeFileSync(
        path,
        'model: ./m.ts\ndata: { source: { csv: { train: a.csv, test: ../b.csv } }, batchSize: 2 }\ntraining: { epochs: 1 }\n',
      );
      const runFile = loadRunFile(path);
      assert.equal(runFile.path, path);
      assert.equal(runFile.name, 'my-run');
      assert.equal(runFile.model, join(folder, 'm.ts'));
      assert.deepEqual(runFile.data.source, {
        csv: {
          train: join(folder, 'a.csv'),
          test: join(folder, '../b.csv'),
          label: -1,
          header: true,
          labels: 'classes',
        },
      });
    });

    it('keeps names of built-ins and absolute paths, and takes the short forms', () => {
      const of = (source: string): unknown =>
        parseRunFile(VALID.replace('source: mnist', `source: ${source}`), join(folder, 'run.yaml')).data.source;
      assert.equal(of('fashion-mnist'), 'fashion-mnist');
      assert.equal(of('data.js'), join(folder, 'data.js'));
      assert.equal(of('/x/data.ts'), '/x/data.ts');
      assert.deepEqual(of('{ idx: mine }'), { idx: join(folder, 'mine') });
      assert.deepEqual(of('{ csv: a.csv }'), {
        csv: { train: join(folder, 'a.csv'), test: null, label: -1, header: true, labels: 'classes' },
      });
    });

    it('says what to do where there is no file', () => {
      assertSays(
        runFileErrorOf(() => loadRunFile(join(folder, 'no.yaml'))),
        ['no.yaml does not exist', 'whittle init'],
      );
      assertSays(
        runFileErrorOf(() => loadRunFile(folder)),
        [`${folder} is a folder`, '/run.yaml'],
      );
    });
  });
});
