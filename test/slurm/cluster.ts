/**
 * A Slurm of three nodes on one machine, without systemd: munged under its own user, slurmctld, three slurmd under
 * node names and ports of their own. All in one temporary folder; `stop` leaves nothing running and nothing behind.
 * Needs root and Debian's packages slurm-wlm and munge (or the like).
 */
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface SlurmCluster {
  /** Set these in the environment of whatever talks to the cluster. */
  readonly env: { readonly SLURM_CONF: string };
  readonly nodes: readonly string[];
  slurm(command: string, ...args: string[]): Promise<string>;
  stop(): Promise<void>;
}

const NODES = ['n1', 'n2', 'n3'];
/** Milliseconds. */
const START_DEADLINE = 60_000;
const END_DEADLINE = 60_000;

/** Why no cluster can be set up here, or null. */
export async function missing(): Promise<string | null> {
  if (process.getuid?.() !== 0)
    return 'it must run as root: slurmd starts jobs for their users, and munged needs a user of its own';
  for (const command of ['munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'scancel', 'squeue', 'scontrol']) {
    if (!(await succeeds('which', command)))
      return `there is no ${command}; on Debian: apt-get install slurm-wlm munge`;
  }
  return (await succeeds('id', 'munge')) ? null : 'there is no user munge; on Debian it comes with the package munge';
}

export async function startCluster(): Promise<SlurmCluster> {
  const folder = await mkdtemp(join(tmpdir(), 'whittle-slurm-'));
  // munged demands that its user can walk to its socket, and that others cannot write on the way.
  await chmod(folder, 0o755);
  const conf = join(folder, 'slurm.conf');
  const env = { SLURM_CONF: conf };
  const daemons: { readonly name: string; readonly child: ChildProcess }[] = [];
  const slurm = async (command: string, ...args: string[]): Promise<string> =>
    (await run(command, args, { env: { ...process.env, ...env }, timeout: 30_000 })).stdout;
  const start = async (name: string, command: string, ...args: string[]): Promise<void> => {
    const log = await open(join(folder, `${name}.out`), 'a');
    daemons.push({
      name,
      child: spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', log.fd, log.fd] }),
    });
    await log.close();
  };

  // Ctrl-C: nobody waits for stop.
  const onExit = (): void => {
    spawnSync('scancel', ['--full', '--signal=KILL', '--user=root'], {
      env: { ...process.env, ...env },
      timeout: 5_000,
    });
    for (const { child } of daemons) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  };
  process.on('exit', onExit);
  const stop = async (): Promise<void> => {
    await endJobs(slurm).catch(() => undefined);
    // Clients of munged first.
    for (const { child } of daemons.toReversed()) await end(child);
    await rm(folder, { recursive: true, force: true });
    process.off('exit', onExit);
  };

  try {
    const munge = await prepareMunge(folder);
    await start('munged', 'setpriv', '--reuid=munge', '--regid=munge', '--clear-groups', 'munged', ...munge.args);
    await until('munged to make its socket', daemons, folder, async () => (await stat(munge.socket)).isSocket());
    const ports = await freePorts(NODES.length + 1);
    await writeFile(conf, slurmConf(folder, munge.socket, ports));
    await writeFile(join(folder, 'gres.conf'), `NodeName=${NODES.join(',')} Name=gpu File=/dev/tty[1-2]\n`);
    for (const each of ['state', 'log', ...NODES.map((node) => `spool-${node}`)]) await mkdir(join(folder, each));
    await start('slurmctld', 'slurmctld', '-D');
    for (const node of NODES) await start(node, 'slurmd', '-D', '-N', node);
    await until('all nodes to be idle', daemons, folder, async () => {
      const states = await slurm('sinfo', '--noheader', '--Node', '--format=%T');
      return (
        states
          .trim()
          .split('\n')
          .filter((state) => state.trim() === 'idle').length === NODES.length
      );
    });
    return { env, nodes: NODES, slurm, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** More CPUs than the machine has, so that jobs fit: config_overrides makes slurmd believe them. */
function slurmConf(folder: string, mungeSocket: string, [controller, ...ports]: readonly number[]): string {
  return [
    'ClusterName=whittle',
    'SlurmctldHost=localhost(127.0.0.1)',
    `SlurmctldPort=${controller}`,
    'SlurmUser=root',
    'AuthType=auth/munge',
    // A requeued job waits for the end of its credentials: two minutes if nothing is said.
    `AuthInfo=socket=${mungeSocket},cred_expire=5`,
    `StateSaveLocation=${folder}/state`,
    `SlurmdSpoolDir=${folder}/spool-%n`,
    `SlurmctldPidFile=${folder}/slurmctld.pid`,
    `SlurmdPidFile=${folder}/slurmd-%n.pid`,
    `SlurmctldLogFile=${folder}/log/slurmctld.log`,
    `SlurmdLogFile=${folder}/log/slurmd-%n.log`,
    'ProctrackType=proctrack/linuxproc',
    'TaskPlugin=task/none',
    'SelectType=select/cons_tres',
    'SelectTypeParameters=CR_Core_Memory',
    'SlurmdParameters=config_overrides',
    'SchedulerType=sched/backfill',
    'SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1',
    'AccountingStorageType=accounting_storage/none',
    'JobAcctGatherType=jobacct_gather/none',
    'MpiDefault=none',
    'SwitchType=switch/none',
    'MailProg=/bin/true',
    'ReturnToService=2',
    'KillWait=30',
    'GresTypes=gpu',
    ...NODES.map(
      (node, i) =>
        `NodeName=${node} NodeHostname=localhost NodeAddr=127.0.0.1 Port=${ports[i]} CPUs=16 RealMemory=16000 Gres=gpu:2`,
    ),
    `PartitionName=main Nodes=${NODES.join(',')} Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=500`,
    '',
  ].join('\n');
}

async function prepareMunge(folder: string): Promise<{ readonly socket: string; readonly args: readonly string[] }> {
  const home = join(folder, 'munge');
  const key = join(home, 'key');
  const socket = join(home, 'socket');
  const user = (await readFile('/etc/passwd', 'utf8')).split('\n').find((line) => line.startsWith('munge:'));
  const [, , uid = '0', gid = '0'] = user?.split(':') ?? [];
  await mkdir(home);
  await writeFile(key, randomBytes(128), { mode: 0o600 });
  for (const path of [home, key]) await chown(path, Number(uid), Number(gid));
  await chmod(home, 0o711);
  return {
    socket,
    args: [
      '--foreground',
      `--key-file=${key}`,
      `--socket=${socket}`,
      `--pid-file=${join(home, 'pid')}`,
      `--log-file=${join(home, 'log')}`,
      `--seed-file=${join(home, 'seed')}`,
    ],
  };
}

/** slurmd leaves the processes of jobs alone when it ends: they must be over before. */
async function endJobs(slurm: SlurmCluster['slurm']): Promise<void> {
  const jobs = async (): Promise<string[]> =>
    (await slurm('squeue', '--noheader', '--format=%i')).split('\n').filter((id) => id !== '');
  for (const end = Date.now() + END_DEADLINE; Date.now() < end; await sleep(200)) {
    const left = await jobs();
    if (left.length === 0) return;
    await slurm('scancel', ...left).catch(() => undefined);
    await slurm('scancel', '--full', '--signal=KILL', ...left).catch(() => undefined);
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  if ((await Promise.race([exit.then(() => true), sleep(10_000, false, { ref: false })])) === true) return;
  child.kill('SIGKILL');
  await exit;
}

async function until(
  what: string,
  daemons: readonly { readonly name: string; readonly child: ChildProcess }[],
  folder: string,
  reached: () => Promise<boolean>,
): Promise<void> {
  for (const deadline = Date.now() + START_DEADLINE; ; await sleep(100)) {
    if (await reached().catch(() => false)) return;
    const ended = daemons.find(({ child }) => child.exitCode !== null || child.signalCode !== null);
    if (ended === undefined && Date.now() < deadline) continue;
    const output = await readFile(join(folder, `${(ended ?? daemons.at(-1))?.name}.out`), 'utf8').catch(() => '');
    throw new Error(
      `${ended === undefined ? `waited ${START_DEADLINE / 1000} s for` : `${ended.name} ended while waiting for`} ${what}:\n${output}`,
    );
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  const ports: number[] = [];
  for (const server of servers) {
    if (!server.listening) await new Promise((resolve) => server.once('listening', resolve));
    ports.push((server.address() as AddressInfo).port);
  }
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
  return ports;
}

async function succeeds(command: string, ...args: string[]): Promise<boolean> {
  return run(command, args).then(
    () => true,
    () => false,
  );
}
