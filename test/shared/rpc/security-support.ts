import assert from 'node:assert/strict';
import type { RunCredentials } from '../../../shared/rpc/credentials.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { unaryHandler } from '../../../shared/rpc/server.ts';
import type { RunningServer, ServerOptions } from '../../../shared/rpc/server.ts';
import { startPair } from './support.ts';
import type { Pair } from './support.ts';

export const soon = { deadlineMilliseconds: 5000 };
export const norm = { ShareNorm: unaryHandler(() => ({})) };

export const isCode =
  (code: string, message = /./) =>
  (error: unknown): boolean => {
    assert.ok(error instanceof WhittleError);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  };

/** Lines of a server's log about refused callers; `next` waits for one that matches. */
function refusalsOf(server: RunningServer): { lines: string[]; next: (pattern: RegExp) => Promise<string> } {
  const lines: string[] = [];
  const waits: (() => void)[] = [];
  server.logRefusals((fields, message) => {
    lines.push(`${String(fields['peer'])} ${message}`);
    for (const look of waits.splice(0)) look();
  });
  return {
    lines,
    next: (pattern) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = lines.find((line) => pattern.test(line));
          if (found === undefined) waits.push(look);
          else resolve(found);
        };
        look();
      }),
  };
}

/** A server that logs whom it refused, and a client of it, while `run` goes on. */
export async function withPair(
  options: Partial<ServerOptions> & { readonly client?: RunCredentials },
  run: (pair: Pair & { refusals: ReturnType<typeof refusalsOf> }) => Promise<void>,
  handlers: Parameters<typeof startPair>[0] = norm,
): Promise<void> {
  const pair = await startPair(handlers, undefined, options);
  try {
    await run({ ...pair, refusals: refusalsOf(pair.server) });
  } finally {
    pair.client.close();
    await pair.server.stop(10);
  }
}
