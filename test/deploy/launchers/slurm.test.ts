import assert from 'node:assert/strict';
import {
  outOfReach,
  parseJobState,
  parseNodeAddresses,
  stepsNamed,
  type JobState,
} from '../../../deploy/launchers/slurm-commands.ts';
import { createSlurmHost, listenOptions, roleExit, stepEnvironment } from '../../../deploy/launchers/slurm-host.ts';
import { JobWatch } from '../../../deploy/launchers/slurm-job-watch.ts';
import { slurmOptions } from '../../../deploy/launchers/slurm-options.ts';
import { WhittleError } from '../../../shared/errors.ts';

describe('what Slurm prints', () => {
  it('is a job state, or nothing', () => {
    assert.deepEqual(parseJobState('PENDING|Resources|\n'), { state: 'PENDING', reason: 'Resources', nodes: '' });
    assert.deepEqual(parseJobState('RUNNING|None|n[1-3]\n'), { state: 'RUNNING', reason: 'None', nodes: 'n[1-3]' });
    assert.equal(parseJobState('\n'), null);
  });

  it('names the steps of a job, and each start of a role apart', () => {
    const steps = '7.0|scheduler-0.1\n7.4|worker-1.5\n7.batch|batch\n7.6|worker-1.7\n';
    assert.deepEqual(stepsNamed(steps, 'worker-1.7'), ['7.6']);
    assert.deepEqual(stepsNamed(steps, 'worker-1'), []);
  });

  it('is told apart from a refusal where the cluster was not reached at all, with what to do', () => {
    const noConfiguration =
      'sbatch: error: fetch_config: DNS SRV lookup failed; sbatch: fatal: Could not establish a configuration source';
    const away = 'sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)';
    assert.deepEqual(outOfReach('sbatch', noConfiguration), {
      code: 'USAGE',
      message:
        "this host is not set up for Slurm (sbatch: Could not establish a configuration source); go to a host that may submit jobs, or set SLURM_CONF to the cluster's slurm.conf",
    });
    assert.match(
      outOfReach('sbatch', away)?.message ?? '',
      /\(sbatch: Batch job .*connect failure\)\); `scontrol ping`/,
    );
    assert.equal(outOfReach('sbatch', 'sbatch: error: invalid partition specified: nix'), null);
  });

  it('gives the addresses of nodes', () => {
    const shown =
      'NodeName=n1 Arch=x86_64 NodeAddr=10.0.0.7 NodeHostName=host1 Port=1\nNodeName=n2 NodeAddr=n2.cluster NodeHostName=host2\n';
    assert.deepEqual(
      [...parseNodeAddresses(shown)],
      [
        ['n1', '10.0.0.7'],
        ['n2', 'n2.cluster'],
      ],
    );
  });
});

describe('a role as a step', () => {
  it('ends as its task did', () => {
    assert.deepEqual(roleExit({ code: 0, signal: null }), { code: 0, signal: null });
    assert.deepEqual(roleExit({ code: 1, signal: null }), { code: 1, signal: null });
    assert.deepEqual(roleExit({ code: 137, signal: null }), { code: null, signal: 'SIGKILL' });
    assert.deepEqual(roleExit({ code: 143, signal: null }), { code: null, signal: 'SIGTERM' });
    // An error of Slurm's own: neither a role that failed nor a signal.
    assert.deepEqual(roleExit({ code: 200, signal: null }), { code: 200, signal: null });
    assert.deepEqual(roleExit({ code: null, signal: 'SIGKILL' }), { code: null, signal: 'SIGKILL' });
  });

  it('is started without what the batch step was given for the whole job', () => {
    const env = stepEnvironment({
      PATH: '/bin',
      SLURM_JOB_ID: '7',
      SLURM_CONF: '/etc/slurm.conf',
      SLURM_JOB_NODELIST: 'n[1-3]',
      SLURM_MEM_PER_NODE: '4096',
      SLURM_CPUS_PER_TASK: '9',
      SRUN_CPUS_PER_TASK: '9',
      SLURM_NTASKS_PER_NODE: '1',
      SLURM_TRES_PER_TASK: 'cpu=9',
      SLURM_GPUS_ON_NODE: '2',
    });
    assert.deepEqual(env, {
      PATH: '/bin',
      SLURM_JOB_ID: '7',
      SLURM_CONF: '/etc/slurm.conf',
      SLURM_JOB_NODELIST: 'n[1-3]',
      SLURM_EXIT_ERROR: '200',
      WHITTLE_LEAVES_ON_INTERRUPT: '1',
    });
  });

  it('listens where the other nodes reach it, and on loopback where there are none', () => {
    const far = [
      { name: 'n1', address: '10.0.0.1' },
      { name: 'n2', address: 'n2.cluster' },
    ];
    const near = [
      { name: 'n1', address: '127.0.0.1' },
      { name: 'n2', address: '127.0.0.2' },
    ];
    assert.deepEqual(listenOptions(far[1]!, far), ['--host', '0.0.0.0', '--advertise', 'n2.cluster']);
    assert.deepEqual(listenOptions(near[1]!, near), ['--host', '127.0.0.1']);
    assert.deepEqual(listenOptions(far[0]!, far.slice(0, 1)), ['--host', '127.0.0.1']);
  });

  it('says so where there is no srun', async () => {
    const host = createSlurmHost({
      jobId: '7',
      nodes: [{ name: 'n1', address: 'n1' }],
      options: slurmOptions({}),
      servers: 2,
      entry: [],
    });
    const { PATH } = process.env;
    process.env['PATH'] = '/nowhere';
    try {
      const start = host.start({ role: 'server', rank: 1, args: [], outputFile: '/dev/null', environment: undefined });
      await assert.rejects(start, /\[ROLE_LOST\] server\[1\] could not be started: spawn srun ENOENT/);
    } finally {
      process.env['PATH'] = PATH;
    }
  });
});

describe('following a job', () => {
  it('tells each change once, waits through a controller that is away, and knows the end', async () => {
    const away = new WhittleError('DEADLINE', 'squeue failed: Unable to contact slurm controller');
    const pending: JobState = { state: 'PENDING', reason: 'Priority', nodes: '' };
    const running: JobState = { state: 'RUNNING', reason: 'None', nodes: 'n[1-2]' };
    const answers: (JobState | WhittleError | null)[] = [pending, pending, away, away, running, away, running, null];
    const told: string[] = [];
    const watch = new JobWatch(
      '42',
      (line) => told.push(line),
      () => {
        const next = answers.shift();
        return next instanceof WhittleError ? Promise.reject(next) : Promise.resolve(next ?? null);
      },
    );
    const seen: (string | null)[] = [];
    while (answers.length > 0) seen.push((await watch.look())?.state ?? null);
    assert.deepEqual(seen, ['PENDING', 'PENDING', 'PENDING', 'PENDING', 'RUNNING', 'RUNNING', 'RUNNING', null]);
    assert.deepEqual(told, [
      'job 42 is PENDING (Priority)',
      'squeue failed: Unable to contact slurm controller; asking again',
      'job 42 is RUNNING on n[1-2]',
      'squeue failed: Unable to contact slurm controller; asking again',
      'job 42 is COMPLETED',
    ]);
  });
});
