import { status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { ERROR_CODES, WhittleError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';

/** Longest text of an error that travels in a status; a stack or a list beyond it is cut. */
const MAX_DETAILS = 4096;

export interface StatusError extends Error {
  readonly code: status;
  readonly details: string;
}

/**
 * An error as a gRPC status. `details` is the error's message with its `[CODE]`, from which
 * `fromStatus` rebuilds the error at the caller; the status code is for other gRPC tools.
 */
export function toStatus(reason: unknown): StatusError {
  const error = WhittleError.from(reason);
  const details = error.message.slice(0, MAX_DETAILS);
  return Object.assign(new Error(details), { code: statusOf(error.code), details });
}

function statusOf(code: ErrorCode): status {
  if (code === 'PROTOCOL') return status.INVALID_ARGUMENT;
  if (code === 'DEADLINE') return status.DEADLINE_EXCEEDED;
  if (code === 'ROLE_LOST') return status.UNAVAILABLE;
  if (code === 'INTERRUPTED') return status.CANCELLED;
  if (code === 'INTERNAL') return status.INTERNAL;
  if (code === 'SECURITY') return status.UNAUTHENTICATED;
  return status.FAILED_PRECONDITION;
}

/**
 * The error behind a failed call. `what` says who was asked for what: `Scheduler.stop at 10.0.0.1:7000`.
 * ROLE_LOST and DEADLINE are retryable: every rpc is idempotent.
 */
export function fromStatus(error: Pick<ServiceError, 'code' | 'details'>, what: string): WhittleError {
  const sent = /^\[([A-Z_]+)\] (.*)$/s.exec(error.details);
  const code = sent?.[1] !== undefined && isErrorCode(sent[1]) ? sent[1] : codeOf(error.code);
  const details = sent?.[2] ?? error.details;
  return new WhittleError(code, `${what}: ${details}${CURES[code] ?? ''}`, {
    cause: error,
    data: { what, status: status[error.code] ?? error.code },
    retryable: code === 'ROLE_LOST' || code === 'DEADLINE',
  });
}

const CURES: { readonly [code in ErrorCode]?: string } = {
  ROLE_LOST: '; is its process alive and reachable? Its log says how it ended',
  DEADLINE: '; its process lives but did not answer in time',
};

function codeOf(code: status): ErrorCode {
  switch (code) {
    case status.DEADLINE_EXCEEDED:
      return 'DEADLINE';
    case status.UNAVAILABLE:
    case status.CANCELLED:
      return 'ROLE_LOST';
    case status.UNAUTHENTICATED:
      return 'SECURITY';
    case status.RESOURCE_EXHAUSTED:
    case status.INVALID_ARGUMENT:
    case status.UNIMPLEMENTED:
    case status.OUT_OF_RANGE:
    case status.INTERNAL:
      return 'PROTOCOL';
    default:
      return 'INTERNAL';
  }
}

function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_CODES, text);
}
