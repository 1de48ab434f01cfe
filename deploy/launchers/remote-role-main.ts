/**
 * Runs one role on the machine where this is started, and makes sure that it ends: see remote-role.ts. When its
 * connection ends, the launcher is gone or cannot reach this machine. The role then learns so from its own stdin, as
 * under any launcher (a scheduler checkpoints and stops, a member follows it); it is killed when a successor took its
 * place, or when it is still there after a time.
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import { type RemoteJob, SILENCE_DEADLINE } from './remote-role.ts';
import { LAUNCHER_PIPE } from './role-process.ts';

/** Milliseconds. A scheduler may take 120 s for its last checkpoint, and members leave after it. */
const LEAVE_DEADLINE = 150_000;
const LOOK_EVERY = 500;

/** Whoever reads our output may be gone; the role must not end for that. */
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
process.on('SIGHUP', () => undefined);

const lines = createInterface({ input: process.stdin });
let kill: (signal: NodeJS.Signals) => void = () => undefined;
let lose: () => void = () => process.exit(1);
let silence = setTimeout(() => lose(), SILENCE_DEADLINE);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => kill(signal));

let started = false;
lines.on('line', (line) => {
  clearTimeout(silence);
  silence = setTimeout(() => lose(), SILENCE_DEADLINE);
  if (!started) {
    started = true;
    start(JSON.parse(line) as RemoteJob);
  } else if (Object.hasOwn(constants.signals, line)) kill(line as NodeJS.Signals);
});
lines.on('close', () => lose());

function start(job: RemoteJob): void {
  const child = spawn(process.execPath, job.argv, {
    cwd: job.cwd,
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...job.env, [LAUNCHER_PIPE]: '1' },
  });
  child.stdin.on('error', () => undefined);
  child.stdout.pipe(process.stdout, { end: false });
  child.stderr.pipe(process.stderr, { end: false });
  kill = (signal) => {
    try {
      process.kill(-(child.pid ?? 0), signal);
    } catch {
      child.kill(signal);
    }
  };
  lose = () => {
    lose = () => undefined;
    clearTimeout(silence);
    child.stdin.end();
    setTimeout(() => kill('SIGKILL'), LEAVE_DEADLINE);
    setInterval(() => {
      if (wasSucceeded(job)) kill('SIGKILL');
    }, LOOK_EVERY);
  };
  child.once('error', (error) => {
    process.stderr.write(`the role could not be started: ${error.message}\n`);
    process.exit(126);
  });
  // After its output is read to the end, and of what it started itself nothing may stay.
  child.once('close', (code, signal) => {
    kill('SIGKILL');
    process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
    process.stdout.write('', () => process.exit());
  });
}

function wasSucceeded({ place }: RemoteJob): boolean {
  try {
    return readFileSync(place.file, 'utf8') !== place.token;
  } catch {
    // The run directory may be out of reach for a moment, or removed with the run.
    return false;
  }
}
