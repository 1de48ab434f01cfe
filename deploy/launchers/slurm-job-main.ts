/** The batch step of a run's Slurm job: `node slurm-job-main RUN_DIRECTORY`. Supervises the roles, each a step of the job. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { readRunLock } from '../../shared/coordination/lock.ts';
import { WhittleError } from '../../shared/errors.ts';
import { executeRun, exitCodeOf } from './execute.ts';
import type { Launcher, LaunchPlan } from './launcher.ts';
import { ownEntry } from './local.ts';
import { nodesOf, requeueJob } from './slurm-commands.ts';
import { createSlurmHost, stepEnvironment } from './slurm-host.ts';
import { JobRecord } from './slurm-record.ts';
import { superviseRun } from './supervise.ts';

/** Milliseconds. A lock of a scheduler on a lost node counts as held for 20 s. */
const LOCK_DEADLINE = 60_000;
const DEADLINES = {
  // srun waits for resources, and a node may take its time to load the program from shared storage.
  listening: 300_000,
  // Signals go by way of the controller.
  terminate: 10_000,
};

const [runDirectory = ''] = process.argv.slice(2);
const record = new JobRecord(runDirectory);
const jobId = process.env['SLURM_JOB_ID'] ?? '';
const restart = Number(process.env['SLURM_RESTART_COUNT'] ?? 0);

const stop = new AbortController();
// The job's time is nearly up: checkpoint and stop, and back into the queue.
let timeIsUp = false;
process.on('SIGUSR1', () => {
  timeIsUp = true;
  say('SIGUSR1: the run writes a checkpoint and stops');
  stop.abort();
});
// `whittle stop`, scancel, preemption: whoever sent it decides whether the job comes back.
process.on('SIGTERM', () => {
  timeIsUp = false;
  say('SIGTERM: the run writes a checkpoint and stops');
  stop.abort();
});
process.on('SIGCONT', () => undefined);

try {
  process.exitCode = await main();
} catch (reason) {
  const error = WhittleError.from(reason);
  process.stderr.write(`${error.stack ?? error.message}\n`);
  await record.writeReport({
    jobId,
    restart,
    event: 'failed',
    code: error.code,
    message: error.rawMessage,
    data: error.data,
  });
  process.exitCode = error.exitCode;
}

async function main(): Promise<number> {
  const request = await record.request();
  if (request === null || jobId === '')
    throw new WhittleError(
      'USAGE',
      `${runDirectory || 'no folder'} is not the run directory of a Slurm job, or this is not in one; use \`whittle launch run.yaml --on slurm\``,
    );
  const nodes = await nodesOf(process.env['SLURM_JOB_NODELIST'] ?? '');
  say(`job ${jobId}, start ${restart + 1}, on ${nodes.map(({ name }) => name).join(' ')}`);
  const env = stepEnvironment(process.env);
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
  Object.assign(process.env, env);

  await untilUnlocked();
  const plan = await planOf(request.plan);
  const host = createSlurmHost({ jobId, nodes, options: request.options, servers: plan.servers, entry: ownEntry() });
  const launcher: Launcher = {
    name: 'slurm',
    start: (each, signal, tell) => superviseRun(each, signal, host, DEADLINES, tell),
  };
  const result = await executeRun(launcher, plan, {
    signal: stop.signal,
    onNotice: say,
    onStarted: ({ schedulerAddress, generation, processes }) => {
      say(`started ${processes.length} roles, scheduler at ${schedulerAddress}`);
      void record.writeReport({ jobId, restart, event: 'started', schedulerAddress, generation, processes });
    },
  });
  say(`the run ended ${result.state} at step ${result.step} of ${result.totalSteps}`);
  if (timeIsUp && result.state === 'STOPPED' && request.options.requeue) {
    say(`back into the queue as job ${jobId}`);
    await requeueJob(jobId);
  }
  // A run that was told to stop did what it was told: the job is not a failed one.
  return result.state === 'STOPPED' ? 0 : exitCodeOf(result);
}

/** A job that Slurm started again goes on from the newest checkpoint; without one it begins again. */
async function planOf(plan: LaunchPlan): Promise<LaunchPlan> {
  if (restart === 0) return plan;
  const checkpoints = await new CheckpointStore(runDirectory).list();
  return { ...plan, resume: checkpoints.some(({ complete }) => complete) ? { folder: null } : null };
}

/** The scheduler of the part before this one may have died with its node, which cannot be seen from here at once. */
async function untilUnlocked(): Promise<void> {
  for (const end = Date.now() + LOCK_DEADLINE; Date.now() < end; await sleep(500)) {
    if ((await readRunLock(runDirectory)) === null) return;
  }
}

function say(line: string): void {
  process.stdout.write(`${new Date().toISOString()} ${line}\n`);
}
