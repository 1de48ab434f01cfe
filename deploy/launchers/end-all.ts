import type { RoleProcess } from './role-process.ts';

/** SIGTERM, then SIGKILL after the deadline; resolves when all are reaped. */
export async function endAll(processes: readonly RoleProcess[], deadline: number): Promise<void> {
  const running = processes.filter((each) => each.ended() === null);
  if (running.length === 0) return;
  const all = Promise.all(running.map((each) => each.exit));
  running.forEach((each) => each.kill('SIGTERM'));
  if (await within(deadline, all)) return;
  running.forEach((each) => each.kill('SIGKILL'));
  await all;
}

/** True when the promise settled within so many milliseconds. Leaves no timer. */
export async function within(milliseconds: number, promise: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
