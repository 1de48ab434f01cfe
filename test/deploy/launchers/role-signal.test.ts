import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { PassThrough } from 'node:stream';
import { LAUNCHER_PIPE } from '../../../deploy/launchers/role-process.ts';
import { isListening, roleSignal, type RoleSignalOptions } from '../../../deploy/launchers/role-signal.ts';

describe('roleSignal', () => {
  const signalOf = (change: Partial<RoleSignalOptions> & Pick<RoleSignalOptions, 'scheduler'>) => {
    const stdin = new PassThrough();
    const outer = new AbortController();
    const role = roleSignal({
      signal: outer.signal,
      stdin: stdin as unknown as NodeJS.ReadStream,
      env: { [LAUNCHER_PIPE]: '1' },
      exit: () => assert.fail('ended by force'),
      ...change,
    });
    return { stdin, outer, role };
  };

  it('follows the signal of the command line', () => {
    const { outer, role } = signalOf({ scheduler: null });
    assert.equal(role.signal.aborted, false);
    outer.abort();
    assert.equal(role.signal.aborted, true);
    role.dispose();
  });

  it('tells a scheduler at once that its launcher is gone', async () => {
    const { stdin, role } = signalOf({ scheduler: null });
    const aborted = once(role.signal, 'abort');
    stdin.end();
    await aborted;
    assert.match(String(role.signal.reason), /the launcher is gone/);
    role.dispose();
  });

  it('lets a member go on while the scheduler lives', async () => {
    const asked: string[] = [];
    const { stdin, role } = signalOf({
      scheduler: () => Promise.resolve('host:1'),
      probe: async (address) => {
        asked.push(address);
        assert.equal(role.signal.aborted, false);
        return Promise.resolve(asked.length < 2);
      },
    });
    const aborted = once(role.signal, 'abort');
    stdin.end();
    await aborted;
    assert.deepEqual(asked, ['host:1', 'host:1']);
    role.dispose();
  });

  it('does not care for stdin where no launcher holds it', async () => {
    const { stdin, role } = signalOf({ scheduler: null, env: {} });
    const ended = once(stdin, 'end');
    stdin.end();
    stdin.resume();
    await ended;
    assert.equal(role.signal.aborted, false);
    role.dispose();
  });
});

describe('isListening', () => {
  it('tells an open port from a closed one', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert.ok(typeof address === 'object' && address !== null);
    assert.equal(await isListening(`127.0.0.1:${address.port}`), true);
    server.close();
    await once(server, 'close');
    assert.equal(await isListening(`127.0.0.1:${address.port}`), false);
  });
});
