import assert from 'node:assert/strict';
import { WhittleError } from '../../../shared/errors.ts';

/** A small valid run file; tests change one line of it. */
export const VALID = `model: lenet-300-100
data: { source: mnist, batchSize: 100 }
training:
  steps: 1000
  optimizer: { kind: adam, learningRate: 0.001 }
sparsity:
  - match: "*/kernel"
    schedule: { kind: polynomial, finalSparsity: 0.95, beginStep: 100, endStep: 700 }
`;

/** The RUN_FILE error that a call must throw. */
export function runFileErrorOf(call: () => unknown): WhittleError {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof WhittleError, `not a WhittleError: ${String(error)}`);
    assert.equal(error.code, 'RUN_FILE', error.message);
    assert.equal(error.exitCode, 2);
    return error;
  }
  return assert.fail('no error');
}

/** Asserts that the message holds every part. */
export function assertSays(error: WhittleError, parts: readonly string[]): void {
  for (const part of parts)
    assert.ok(error.message.includes(part), `${JSON.stringify(part)} is not in\n${error.message}`);
}
