import assert from 'node:assert/strict';
import { WhittleError } from '../../../shared/errors.ts';
import { pause, retry, withDeadline } from '../../../shared/rpc/deadline.ts';

const never = new Promise<never>(() => undefined);
const lost = new WhittleError('ROLE_LOST', 'nobody listens', { retryable: true });

/** Mocha starts its own timer once the test has yielded. */
async function timers(): Promise<number> {
  await pause(1, 'mocha');
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
}

describe('withDeadline', () => {
  it('passes on a value or an error and leaves no timer', async () => {
    const before = await timers();
    assert.equal(await withDeadline(Promise.resolve(4), 60_000, 'four'), 4);
    await assert.rejects(withDeadline(Promise.reject(lost), 60_000, 'it'), lost);
    assert.equal(await timers(), before);
  });

  it('says what it waited for', async () => {
    await assert.rejects(withDeadline(never, 5, 'HOLD of S[1] at step 7'), {
      code: 'DEADLINE',
      rawMessage: 'waited 0.005 s for HOLD of S[1] at step 7',
      retryable: true,
    });
  });

  it('ends with the signal, by its reason if that says more', async () => {
    const before = await timers();
    const plain = new AbortController();
    const wait = withDeadline(never, 60_000, 'the welcome', plain.signal);
    plain.abort();
    await assert.rejects(wait, { code: 'INTERRUPTED', rawMessage: 'stopped while waiting for the welcome' });
    await assert.rejects(withDeadline(never, 60_000, 'x', AbortSignal.abort(lost)), lost);
    await assert.rejects(pause(60_000, 'x', AbortSignal.abort()), { code: 'INTERRUPTED' });
    assert.equal(await timers(), before);
  });
});

describe('retry', () => {
  const options = { deadlineMilliseconds: 5000, what: 'S[0]', pauseMilliseconds: 1 };

  it('repeats what is retryable only', async () => {
    let attempts = 0;
    const value = await retry(() => (++attempts < 3 ? Promise.reject(lost) : Promise.resolve('yes')), options);
    assert.deepEqual([value, attempts], ['yes', 3]);
    const final = new WhittleError('PROTOCOL', 'no');
    attempts = 0;
    await assert.rejects(
      retry(() => (attempts++, Promise.reject(final)), options),
      final,
    );
    assert.equal(attempts, 1);
  });

  it('ends at its deadline with the last failure', async () => {
    const wait = retry(() => Promise.reject(lost), { ...options, deadlineMilliseconds: 20 });
    await assert.rejects(wait, { code: 'DEADLINE', cause: lost, rawMessage: /for S\[0\]; the last .* nobody listens/ });
  });
});
