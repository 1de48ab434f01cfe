import { readFile, readlink } from 'node:fs/promises';
import { hostname } from 'node:os';

/**
 * Names one process for others to ask whether it still lives. A pid alone does not: pids are used again, and mean
 * nothing on another host or in another container.
 */
export interface ProcessIdentity {
  readonly host: string;
  readonly pid: number;
  /** Start of the process in clock ticks since boot (/proc/<pid>/stat); '' where there is no /proc. */
  readonly processStart: string;
  /** Kernel boot and pid namespace: pids can be compared only where both are the same. '' where there is no /proc. */
  readonly pidSpace: string;
}

export async function thisProcess(): Promise<ProcessIdentity> {
  const [boot, namespace, stat] = await Promise.all([
    readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => ''),
    readlink('/proc/self/ns/pid').catch(() => ''),
    processStat(process.pid),
  ]);
  return {
    host: hostname(),
    pid: process.pid,
    processStart: stat?.start ?? '',
    pidSpace: `${boot.trim()} ${namespace}`.trim(),
  };
}

/** `unknown` for a process of another host or container, which cannot be seen from here. */
export async function livenessOf(other: ProcessIdentity): Promise<'alive' | 'dead' | 'unknown'> {
  const self = await thisProcess();
  if (other.host !== self.host || other.pidSpace !== self.pidSpace) return 'unknown';
  if (other.pid === self.pid && other.processStart === self.processStart) return 'alive';
  try {
    process.kill(other.pid, 0);
  } catch (error) {
    // EPERM: it exists and belongs to somebody else.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return 'dead';
  }
  if (other.processStart === '') return 'alive';
  const stat = await processStat(other.pid);
  // A zombie (Z, X) is dead: it only waits for its parent to ask.
  return stat?.start === other.processStart && stat.state !== 'Z' && stat.state !== 'X' ? 'alive' : 'dead';
}

/** State letter and start time (fields 3 and 22 of proc_pid_stat(5)); the name before them may hold spaces and brackets. */
async function processStat(pid: number): Promise<{ state: string; start: string } | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  if (text === null) return null;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', start: fields[19] ?? '' };
}
