import assert from 'node:assert/strict';
import { WhittleError } from '../../../shared/errors.ts';
import { addressOf, healthClient, parameterServerClient, schedulerClient, unary } from '../../../shared/rpc/client.ts';
import { MAX_MESSAGE_BYTES } from '../../../shared/rpc/options.ts';
import { startServer, unaryHandler } from '../../../shared/rpc/server.ts';
import { deferred, startPair, stopPair } from './support.ts';

const soon = { deadlineMilliseconds: 5000 };
const configure = { generation: 3, rank: 1, cuts: [0, 64, 2 ** 40], servers: ['a:1', 'b:2'] };

function isError(code: string, message: RegExp, retryable = false): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof WhittleError);
    assert.equal(error.code, code);
    assert.match(error.message, message);
    assert.equal(error.retryable, retryable);
    return true;
  };
}

describe('unary calls', () => {
  it('carry typed messages: long numbers as numbers, defaults filled in', async () => {
    const pair = await startPair({
      Configure: unaryHandler((request) => {
        assert.deepEqual(request, { ...configure, modelDescription: '', runFile: '', restoreFrom: '' });
        return { clock: 2 ** 40, maskEpoch: request.rank };
      }),
    });
    const reply = await unary(pair.client, 'configure', configure, soon);
    assert.deepEqual(reply, { clock: 2 ** 40, maskEpoch: 1 });
    assert.equal(addressOf(pair.client), pair.server.address);
    await stopPair(pair);
  });

  it('fail with the error that the handler threw', async () => {
    const pair = await startPair({
      Configure: unaryHandler(() => {
        throw new WhittleError('STALE_GENERATION', 'generation 3 is over; this server is at 4');
      }),
      Histogram: unaryHandler(() => {
        throw new TypeError('x is undefined');
      }),
    });
    const at = pair.server.address.replaceAll('.', '\\.');
    await assert.rejects(
      unary(pair.client, 'configure', configure, soon),
      isError('STALE_GENERATION', new RegExp(`configure at ${at}: generation 3 is over`)),
    );
    await assert.rejects(unary(pair.client, 'histogram', {}, soon), isError('INTERNAL', /x is undefined/));
    await stopPair(pair);
  });

  it('end at their deadline and say what they waited for', async () => {
    const pair = await startPair({ Configure: () => undefined });
    const call = unary(pair.client, 'configure', configure, { deadlineMilliseconds: 30 });
    await assert.rejects(call, isError('DEADLINE', /configure at 127\.0\.0\.1:\d+: no answer in 0\.03 s/, true));
    pair.client.close();
    await pair.server.stop(0);
  });

  it('end when the signal aborts', async () => {
    const asked = deferred();
    const pair = await startPair({ Configure: () => asked.resolve() });
    const abort = new AbortController();
    const call = unary(pair.client, 'configure', configure, { ...soon, signal: abort.signal });
    await asked.promise;
    abort.abort();
    await assert.rejects(call, isError('INTERRUPTED', /configure at/));
    await assert.rejects(unary(pair.client, 'configure', configure, { ...soon, signal: abort.signal }), /INTERRUPTED/);
    pair.client.close();
    await pair.server.stop(0);
  });

  it('fail at once, retryable, where nobody listens', async () => {
    const client = schedulerClient('127.0.0.1:1');
    await assert.rejects(
      unary(client, 'stop', { reason: '' }, soon),
      isError('ROLE_LOST', /stop at 127\.0\.0\.1:1/, true),
    );
    client.close();
  });

  it('refuse messages over the limit, whichever way', async () => {
    const runFile = 'x'.repeat(MAX_MESSAGE_BYTES);
    const pair = await startPair({});
    await assert.rejects(unary(pair.client, 'configure', { runFile }, soon), isError('PROTOCOL', /message/));
    await stopPair(pair);
  });

  it('ignore a proxy named in the environment', async () => {
    const pair = await startPair({ ShareNorm: unaryHandler(() => ({})) });
    const before = process.env['grpc_proxy'];
    process.env['grpc_proxy'] = 'http://127.0.0.1:1';
    const client = parameterServerClient(pair.server.address);
    try {
      assert.deepEqual(await unary(client, 'shareNorm', {}, soon), {});
    } finally {
      if (before === undefined) delete process.env['grpc_proxy'];
      else process.env['grpc_proxy'] = before;
      client.close();
      await stopPair(pair);
    }
  });
});

describe('startServer', () => {
  it('names address and cure when the port is in use', async () => {
    const first = await startServer({ host: '127.0.0.1', port: 0, services: [] });
    await assert.rejects(
      startServer({ host: '127.0.0.1', port: first.port, services: [] }),
      isError(
        'PORT',
        new RegExp(`127\\.0\\.0\\.1:${first.port}: another process listens there; .*\\(0 takes a free one`),
      ),
    );
    await assert.rejects(
      startServer({ host: '192.0.2.1', port: 0, services: [], listening: { insecure: true } }),
      isError('PORT', /no such address/),
    );
    await first.stop(0);
  });

  it('answers the health service', async () => {
    const server = await startServer({ host: '127.0.0.1', port: 0, services: [] });
    const client = healthClient(server.address);
    const status = async (): Promise<string> => (await unary(client, 'check', { service: '' }, soon)).status;
    assert.equal(await status(), 'NOT_SERVING');
    server.setServing(true);
    assert.equal(await status(), 'SERVING');
    client.close();
    await server.stop(1000);
  });

  it('cuts calls that outlive the grace', async () => {
    const asked = deferred();
    const pair = await startPair({ Configure: () => asked.resolve() });
    const call = unary(pair.client, 'configure', configure, soon);
    const lost = assert.rejects(call, isError('ROLE_LOST', /configure at/, true));
    await asked.promise;
    await Promise.all([pair.server.stop(1), pair.server.stop(1)]);
    await lost;
    assert.deepEqual(pair.server.windows(), []);
    pair.client.close();
  });
});
