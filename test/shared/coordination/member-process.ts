import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { CoordinationConfig } from '../../../shared/config/types.ts';
import { packageRoot } from '../../../shared/package-root.ts';

const FIXTURE = fileURLToPath(new URL('./fixtures/member.ts', import.meta.url));

/** A real process of a run; see fixtures/member.ts for what it understands. */
export interface MemberProcess {
  readonly pid: number;
  /** Has it do one thing, and answers what it said. */
  ask(line: string): Promise<string>;
  signal(name: NodeJS.Signals): void;
  /** kill -9; resolves when it is gone. */
  kill(): Promise<void>;
}

export async function startMember(config: CoordinationConfig, runDirectory: string): Promise<MemberProcess> {
  const child: ChildProcess = spawn(
    process.execPath,
    ['--import', 'tsx', FIXTURE, JSON.stringify(config), runDirectory],
    { cwd: packageRoot, stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => String((await lines.next()).value);
  assert.equal(await next(), 'ready');
  return {
    pid: child.pid!,
    ask: (line) => {
      child.stdin!.write(`${line}\n`);
      return next();
    },
    signal: (name) => child.kill(name),
    kill: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}
