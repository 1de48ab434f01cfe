import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { nodeNeeds, nodeOf, stepOptions } from '../../../deploy/launchers/slurm-placement.ts';
import { jobScript, shellQuote } from '../../../deploy/launchers/slurm-script.ts';
import { slurmOptions, type SlurmOptions } from '../../../deploy/launchers/slurm-options.ts';

const size = { servers: 2, workers: 4, standbys: 0 };

function script(given: Partial<SlurmOptions> = {}, changes: { runDirectory?: string } = {}): string[] {
  const text = jobScript({
    runId: 'mine',
    runDirectory: '/shared/runs/mine',
    size,
    options: slurmOptions(given),
    command: ['/usr/bin/node', '/opt/whittle/main.js', '/shared/runs/mine'],
    ...changes,
  });
  return text.split('\n');
}

describe('the job script of a run', () => {
  it('asks each node for what its roles need, and hands its signals to the supervisor', () => {
    // 2 servers and 4 workers on 3 nodes: 2 a node, of 3 CPUs and 2 GB each; the first has the scheduler besides.
    const lines = script({
      nodes: 3,
      cpus: 3,
      memory: '2G',
      gres: 'gpu:a100:2',
      time: '1-12',
      partition: 'long',
      account: 'physics',
      extra: ['--qos=high', '--constraint="fast&big"'],
    });
    assert.deepEqual(lines, [
      '#!/bin/bash',
      '# The Slurm job of run mine. Written by `whittle launch --on slurm`.',
      '#SBATCH --job-name=mine',
      '#SBATCH --output=/shared/runs/mine/logs/slurm-%j.out',
      '#SBATCH --open-mode=append',
      '#SBATCH --nodes=3',
      '#SBATCH --ntasks-per-node=1',
      '#SBATCH --cpus-per-task=7',
      '#SBATCH --mem=6144M',
      '#SBATCH --gres=gpu:a100:4',
      '#SBATCH --time=1-12',
      '#SBATCH --partition=long',
      '#SBATCH --account=physics',
      '#SBATCH --signal=B:USR1@120',
      '#SBATCH --requeue',
      '#SBATCH --qos=high',
      '#SBATCH --constraint="fast&big"',
      'exec /usr/bin/node /opt/whittle/main.js /shared/runs/mine',
      '',
    ]);
  });

  it('leaves to Slurm what was not said', () => {
    const text = script({ requeue: false }).join('\n');
    for (const option of ['--mem', '--gres', '--time', '--partition', '--account', '--requeue\n'])
      assert.ok(!text.includes(option), option);
    assert.match(text, /#SBATCH --no-requeue\n/);
    // One node: the scheduler and six roles of two CPUs.
    assert.match(text, /#SBATCH --nodes=1\n[^]*#SBATCH --cpus-per-task=13\n/);
  });

  it('takes a run directory with blanks and patterns in its name', () => {
    const text = script({}, { runDirectory: '/shared/my runs/100%/the "best"' }).join('\n');
    assert.ok(text.includes('#SBATCH --output="/shared/my runs/100%%/the \\"best\\"/logs/slurm-%j.out"\n'), text);
  });

  it('quotes words as bash reads them', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.string({ unit: 'binary-ascii' }).map((word) => word.replaceAll('\0', '')),
          { minLength: 1 },
        ),
        (words) => {
          const printed = execFileSync('bash', ['-c', `printf '%s\\0' ${words.map(shellQuote).join(' ')}`]).toString();
          assert.deepEqual(printed.split('\0').slice(0, -1), words);
        },
      ),
      { numRuns: 30 },
    );
  });
});

describe('the placement of roles', () => {
  it('spreads servers and workers so that their numbers differ by one at most, and the needs cover every node', () => {
    const counts = { nodes: fc.integer({ min: 1, max: 9 }), servers: fc.integer({ min: 1, max: 9 }) };
    fc.assert(
      fc.property(
        fc.record({ ...counts, workers: fc.integer({ min: 1, max: 20 }), standbys: fc.integer({ min: 0, max: 3 }) }),
        ({ nodes, servers, workers, standbys }) => {
          const options = slurmOptions({ nodes, cpus: 5, memory: '1G', gres: 'gpu:2,license' });
          const needs = nodeNeeds({ servers, workers, standbys }, options);
          const on = (role: 'scheduler' | 'server' | 'worker', count: number): number[] => {
            const all = Array.from({ length: count }, (_, rank) => nodeOf(role, rank, nodes, servers));
            return Array.from({ length: nodes }, (_, node) => all.filter((each) => each === node).length);
          };
          const [s, w, c] = [on('server', servers), on('worker', workers), on('scheduler', 1 + standbys)];
          for (const each of [s, w, s.map((count, n) => count + w[n]!)])
            assert.ok(Math.max(...each) - Math.min(...each) <= 1);
          const fullest = (of: (node: number) => number): number =>
            Math.max(...Array.from({ length: nodes }, (_, node) => of(node)));
          assert.equal(
            needs.cpus,
            fullest((n) => c[n]! + 5 * (s[n]! + w[n]!)),
          );
          assert.equal(
            needs.megabytes,
            fullest((n) => 1024 * (c[n]! + s[n]! + w[n]!)),
          );
          assert.equal(needs.gres, `gpu:${2 * Math.max(...w)},license:${Math.max(...w)}`);
        },
      ),
    );
  });

  it('lets steps share, except workers with resources of their own', () => {
    const own = slurmOptions({ gres: 'gpu:1', cpus: 4, memory: '3G' });
    assert.deepEqual(stepOptions('worker', 'n7', 'worker-0.1', own), [
      '--exact',
      '--nodes=1',
      '--ntasks=1',
      '--cpus-per-task=4',
      '--mem=3072M',
      '--gres=gpu:1',
      '--nodelist=n7',
      '--job-name=worker-0.1',
      '--kill-on-bad-exit=0',
      '--unbuffered',
    ]);
    const server = stepOptions('server', 'n7', 'server-0.2', own);
    assert.ok(server.includes('--overlap') && server.includes('--gres=none'));
    const plain = stepOptions('scheduler', 'n1', 'scheduler-0.3', slurmOptions({ cpus: 4 }));
    assert.ok(plain.includes('--overlap') && plain.includes('--mem=0') && plain.includes('--cpus-per-task=1'));
    assert.ok(!plain.some((option) => option.startsWith('--gres')));
  });
});

describe('options for Slurm', () => {
  it('are refused by name where Slurm would not take them', () => {
    const wrong: [Partial<SlurmOptions>, RegExp][] = [
      [{ nodes: 0 }, /--nodes is "0"/],
      [{ cpus: 1.5 }, /--cpus is "1.5"/],
      [{ memory: '4 GB' }, /--memory is "4 GB"; give a size such as 4G/],
      [{ gres: 'gpu:' }, /--gres is "gpu:"/],
      [{ gres: 'gpu:0' }, /--gres is "gpu:0"/],
      [{ time: '2 hours' }, /--time is "2 hours"/],
      [{ partition: 'a b' }, /--partition is "a b"/],
      [{ account: '-x' }, /--account is "-x"/],
      [{ extra: ['qos=high'] }, /--sbatch is "qos=high"/],
      [{ extra: ['--qos=high\nrm -rf /'] }, /--sbatch is/],
    ];
    for (const [given, message] of wrong) assert.throws(() => slurmOptions(given), message);
    for (const time of ['30', '30:00', '2:00:00', '1-12', '1-12:30', '1-12:30:00']) slurmOptions({ time });
  });
});
