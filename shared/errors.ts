/**
 * The one error family. A message names the value and the cure; `code` is stable and may be matched on;
 * `data` holds the values as fields. User errors end a command with exit code 2 and no stack.
 */
export const ERROR_CODES = {
  USAGE: 'the command line is wrong',
  RUN_FILE: 'the run file is wrong',
  MODEL: 'the model module or its model cannot be used',
  DATA: 'the data cannot be read',
  UNSUPPORTED: 'a layer, option or backend that Whittle does not support',
  RUN_EXISTS: 'a run with this id exists',
  RUN_LOCKED: 'a scheduler still holds the run directory',
  RUN_UNKNOWN: 'no such run',
  CHECKPOINT: 'a checkpoint is damaged, missing or does not fit',
  DISK: 'a file could not be written',
  SECURITY: 'a certificate, token or address that is not safe to use',
  PORT: 'an address could not be listened on',
  NOT_FINITE: 'a loss, gradient or score is NaN or infinite',
  ROLE_LOST: 'a role died or stopped answering',
  DEADLINE: 'a wait exceeded its deadline',
  STALE_GENERATION: 'a message of an older generation',
  PROTOCOL: 'a message broke the protocol',
  INTERRUPTED: 'the run was interrupted',
  INTERNAL: 'a defect in Whittle',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

const USER_ERRORS: ReadonlySet<ErrorCode> = new Set([
  'USAGE',
  'RUN_FILE',
  'MODEL',
  'DATA',
  'UNSUPPORTED',
  'RUN_EXISTS',
  'RUN_LOCKED',
  'RUN_UNKNOWN',
  'SECURITY',
]);

export interface ErrorOptions {
  readonly cause?: unknown;
  readonly data?: Readonly<Record<string, unknown>>;
  /** True where the same call may succeed later without a change by the user. Default false. */
  readonly retryable?: boolean;
}

export class WhittleError extends Error {
  override readonly name = 'WhittleError';
  readonly code: ErrorCode;
  /** The message without its code. */
  readonly rawMessage: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(`[${code}] ${message}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.rawMessage = message;
    this.data = options.data ?? {};
    this.retryable = options.retryable ?? false;
  }

  /** True for mistakes of the user's, which need no stack trace. */
  get isUserError(): boolean {
    return USER_ERRORS.has(this.code);
  }

  /** The exit code of a command that ends with this error: 2 usage, 130 interrupted, else 1. */
  get exitCode(): number {
    if (this.code === 'INTERRUPTED') return 130;
    return this.isUserError ? 2 : 1;
  }

  /** A WhittleError stays itself; anything else becomes INTERNAL with the original as its cause. */
  static from(reason: unknown, code: ErrorCode = 'INTERNAL'): WhittleError {
    if (reason instanceof WhittleError) return reason;
    const message = reason instanceof Error ? reason.message : String(reason);
    return new WhittleError(code, message, { cause: reason });
  }
}
