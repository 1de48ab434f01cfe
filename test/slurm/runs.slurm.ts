/**
 * Runs on a real Slurm of three nodes; `npm run test:slurm` only, since it must be root. Timing decides nothing.
 * WHITTLE_SLURM_STEPS=5616 makes it the main job (then with `-- --grep 'submits one job|cancelled half way'`).
 */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { start, WHITTLE, whittle, writeRunFile, type Ended } from '../cluster/support.ts';
import { missing, type SlurmCluster, startCluster } from './cluster.ts';

/** Long enough to be struck half way, with mask updates and a checkpoint on both sides. */
const STEPS = Number(process.env['WHITTLE_SLURM_STEPS'] ?? 240);
const MAIN_JOB = new URL('../../deploy/examples/lenet-300-100.yaml', import.meta.url).pathname;
const RUN_FILE = {
  name: 'on-slurm',
  seed: 3,
  model: 'lenet-300-100',
  data: { source: 'mnist', batchSize: 32 },
  cluster: { servers: 2, workers: 2, backend: 'wasm' },
  training: { steps: STEPS, optimizer: { kind: 'adam', learningRate: 0.001 }, evaluateEvery: 0 },
  sparsity: [{ schedule: { kind: 'polynomial', finalSparsity: 0.9, beginStep: 40, endStep: 200, frequency: 40 } }],
  checkpoint: { every: 60, keep: 3 },
};
const HALF = STEPS / 2;

describe('runs on Slurm', function () {
  this.timeout(600_000);
  let cluster: SlurmCluster;
  let folder: string;
  let runFile: string;
  let undisturbed: ReturnType<typeof digests>;

  before(async () => {
    const why = await missing();
    if (why !== null) throw new Error(`the tests on Slurm cannot run here: ${why}`);
    // A blank and a percent sign, which mean something in a job script.
    folder = await mkdtemp(join(tmpdir(), 'whittle runs 100%-'));
    runFile = STEPS === 5616 ? MAIN_JOB : await writeRunFile(folder, RUN_FILE);
    cluster = await startCluster();
    undisturbed = digests(
      resultOf(await whittle(['launch', runFile, '--runs-dir', folder, '--run-id', 'here', '--json'])),
    );
  });

  after(async () => {
    await cluster?.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  });

  afterEach(async () => {
    for (const id of lines(await cluster.slurm('squeue', '--noheader', '--format=%i')))
      await cluster.slurm('scancel', id);
    await until(async () => (await cluster.slurm('squeue', '--noheader')) === '');
  });

  const onSlurm = (...args: string[]): ReturnType<typeof start> =>
    start([...args, '--runs-dir', folder, '--json'], { env: cluster.env });
  const launch = (runId: string, ...args: string[]): ReturnType<typeof start> => {
    const options = ['--run-id', runId, '--on', 'slurm', '--nodes', '3', '--cpus', '1', ...args];
    const started = onSlurm('launch', runFile, ...options);
    void started.ended.then((end) => end.code !== 0 && failed.set(runId, end.stderr));
    return started;
  };
  const failed = new Map<string, string>();
  const pathOf = (runId: string): string => join(folder, runId);
  const jobOf = async (runId: string): Promise<string> => {
    const text = await readFile(join(pathOf(runId), 'slurm', 'job.json'), 'utf8');
    return (JSON.parse(text) as { jobId: string }).jobId;
  };
  const step = async (runId: string): Promise<number> =>
    (await new RunDirectory(pathOf(runId)).readStatus())?.step ?? -1;
  const reach = (runId: string, wanted: number): Promise<void> =>
    until(
      async () => (await step(runId)) >= wanted,
      () => failed.get(runId),
    );

  it('submits one job, follows it, and ends with the report and the digests of a run without Slurm', async () => {
    const { ended } = launch('plain');
    await reach('plain', 1);
    const steps = lines(await cluster.slurm('squeue', '--noheader', '--steps', '--format=%j %N'));
    assert.deepEqual(steps.map((line) => line.replace(/\.\d+ /, ' ')).sort(), [
      'batch n1',
      'scheduler-0 n1',
      'server-0 n2',
      'server-1 n3',
      'worker-0 n1',
      'worker-1 n2',
    ]);
    const end = await ended;
    const job = await jobOf('plain');
    assert.match(end.stderr, new RegExp(`submitted job ${job}\\n`));
    assert.match(end.stderr, new RegExp(`job ${job} is RUNNING on n\\[1-3\\]`));
    assert.match(end.stderr + end.stdout, new RegExp(`Run plain finished at step ${STEPS} of ${STEPS}`));
    assert.deepEqual(digests(resultOf(end)), undisturbed);
  });

  it('goes its own way with --detach; status, logs and stop work by its id from any node', async () => {
    const { code, stdout } = await launch('apart', '--detach').ended;
    assert.equal(code, 0);
    const job = await jobOf('apart');
    assert.deepEqual(JSON.parse(stdout), {
      runId: 'apart',
      runDirectory: pathOf('apart'),
      state: 'PENDING',
      jobId: job,
    });
    await reach('apart', 10);
    const onNode = (node: string, ...args: string[]): Promise<string> =>
      cluster.slurm('srun', '-N1', '-n1', '-w', node, process.execPath, WHITTLE, ...args, '--runs-dir', folder);
    const status = JSON.parse(await onNode('n3', 'status', 'apart', '--json')) as { state: string; members: unknown[] };
    assert.equal(status.state, 'RUNNING');
    assert.equal(status.members.length, 4);
    assert.match(await onNode('n2', 'logs', 'apart'), /S\[1\]/);
    assert.match(await onNode('n1', 'stop', 'apart'), /run apart ended STOPPED at step \d+/);
    assert.equal(await jobState(job), 'COMPLETED');
    // What a stop leaves behind is a checkpoint of the step it came at.
    const at = await step('apart');
    assert.ok(
      (await readdir(join(pathOf('apart'), 'checkpoints'))).some((name) =>
        name.startsWith(`step-${String(at).padStart(8, '0')}`),
      ),
    );
  });

  it('cancelled half way, it is resumed to the digests of the undisturbed run', async () => {
    const { ended } = launch('cancelled');
    await reach('cancelled', HALF);
    await cluster.slurm('scancel', await jobOf('cancelled'));
    const { code, stderr } = await ended;
    assert.equal(code, 130, stderr);
    const result = resultOf(await onSlurm('resume', 'cancelled', '--on', 'slurm').ended);
    assert.ok((result.resumedFrom ?? 0) >= HALF, `resumed from ${result.resumedFrom}`);
    assert.deepEqual(digests(result), undisturbed);
    // Not told again: the options of the first job hold.
    assert.match(await readFile(join(pathOf('cancelled'), 'slurm', 'job.sh'), 'utf8'), /--nodes=3\n/);
  });

  it('requeued, it goes on by itself, and nobody else starts it meanwhile', async () => {
    const { ended } = launch('requeued');
    await reach('requeued', HALF);
    const job = await jobOf('requeued');
    // Held, so that it waits for as long as this test looks at it.
    await cluster.slurm('scontrol', 'requeuehold', job);
    await until(async () => (await jobState(job)) === 'PENDING');
    const waiting = await onSlurm('status', 'requeued').ended;
    assert.equal((JSON.parse(waiting.stdout) as { state: string }).state, 'PENDING');
    const resumed = await onSlurm('resume', 'requeued').ended;
    assert.match(resumed.stderr, /\[RUN_LOCKED\] .*has a job in Slurm, and job \d+ is PENDING/);
    await cluster.slurm('scontrol', 'release', job);
    wentOn(await ended);
  });

  it('told by SIGUSR1 that its time is up, it goes back into the queue and on', async () => {
    const { ended } = launch('late');
    await reach('late', HALF);
    await cluster.slurm('scancel', '--batch', '--signal=USR1', await jobOf('late'));
    wentOn(await ended);
  });

  function wentOn(end: Ended): void {
    const result = resultOf(end);
    assert.match(end.stderr, /generation 2: back to step/);
    assert.ok((result.resumedFrom ?? 0) >= HALF, `resumed from ${result.resumedFrom}`);
    assert.deepEqual(digests(result), undisturbed);
  }

  it('a role whose step is killed is started again on its node', async () => {
    const { ended } = launch('struck');
    await reach('struck', HALF);
    const steps = lines(await cluster.slurm('squeue', '--noheader', '--steps', '--format=%i %j'));
    const victim = steps.find((line) => line.includes(' worker-1.'));
    assert.ok(victim !== undefined, steps.join('\n'));
    await cluster.slurm('scancel', '--signal=KILL', victim.split(' ')[0] ?? '');
    const result = resultOf(await ended);
    assert.deepEqual(digests(result), undisturbed);
    const log = await readFile(join(pathOf('struck'), 'logs', `slurm-${await jobOf('struck')}.out`), 'utf8');
    assert.match(log, /worker\[1\] was killed by SIGKILL; started again \(1 of \d+\)/);
  });

  it('gives each worker of a node resources of its own', async () => {
    const { ended } = launch('gres', '--nodes', '1', '--gres', 'gpu:1', '--memory', '1G');
    await reach('gres', 1);
    const devices = await environmentsOf(pathOf('gres'), 'CUDA_VISIBLE_DEVICES');
    assert.deepEqual(devices['worker']?.toSorted(), ['0', '1']);
    assert.deepEqual(devices['server'], ['', '']);
    await onSlurm('stop', 'gres').ended;
    assert.equal((await ended).code, 130);
  });

  it('a second Ctrl-C kills the job', async () => {
    const { child, ended } = launch('killed');
    await reach('killed', 1);
    child.kill('SIGINT');
    let seen = '';
    child.stderr?.on('data', (text: Buffer) => (seen += text.toString()));
    await until(async () => Promise.resolve(seen.includes('Ctrl-C again kills it')));
    child.kill('SIGINT');
    assert.equal((await ended).code, 130);
    await until(async () => ['CANCELLED', 'COMPLETED'].includes(await jobState(await jobOf('killed'))));
  });

  it('interrupted in the queue, it takes its job out of it', async () => {
    const { child, ended } = launch('held', '--sbatch=--hold');
    let seen = '';
    child.stderr?.on('data', (text: Buffer) => (seen += text.toString()));
    await until(async () => Promise.resolve(seen.includes('is PENDING (JobHeldUser)')));
    child.kill('SIGINT');
    const { code, stderr } = await ended;
    assert.equal(code, 130);
    assert.match(stderr, /\[INTERRUPTED\] interrupted before the run started; job \d+ is cancelled/);
    assert.equal(await jobState(await jobOf('held')), 'CANCELLED');
  });

  it('a waiting job is stopped by its run id', async () => {
    await launch('waiting', '--sbatch=--hold', '--detach').ended;
    const { code, stdout } = await onSlurm('stop', 'waiting').ended;
    assert.equal(code, 0);
    assert.equal((JSON.parse(stdout) as { jobId: string }).jobId, await jobOf('waiting'));
    assert.equal(await jobState(await jobOf('waiting')), 'CANCELLED');
  });

  async function jobState(job: string): Promise<string> {
    return (await cluster.slurm('squeue', '--noheader', '--states=all', `--jobs=${job}`, '--format=%T')).trim();
  }
});

function resultOf({ code, stdout, stderr }: Ended): RunResult {
  assert.equal(code, 0, `exit code ${code}\n${stderr}\n${stdout}`);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as RunResult;
}

function digests({ step, maskDigest, weightsDigest, stateDigest }: RunResult): Record<string, unknown> {
  assert.ok(weightsDigest !== null);
  return { step, maskDigest, weightsDigest, stateDigest };
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

/** A variable in the environments of a run's role processes, by role. */
async function environmentsOf(runDirectory: string, name: string): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const pid of (await readdir('/proc')).filter((each) => /^\d+$/.test(each))) {
    const [command, ...args] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    if (command !== process.execPath || !args.includes(runDirectory)) continue;
    const role = args.find((each) => ['scheduler', 'server', 'worker'].includes(each));
    if (role === undefined) continue;
    const environment = (await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0');
    const value = environment.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1) ?? '';
    (found[role] ??= []).push(value);
  }
  return found;
}

/** `failed` says why it will never be. */
async function until(reached: () => Promise<boolean>, failed?: () => string | undefined): Promise<void> {
  for (const deadline = Date.now() + 300_000; !(await reached().catch(() => false)); await sleep(100)) {
    const why = failed?.() ?? (Date.now() > deadline ? 'waited 300 s in vain' : undefined);
    if (why !== undefined) throw new Error(why);
  }
}
