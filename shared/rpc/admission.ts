import { Metadata, ServerInterceptingCall, status } from '@grpc/grpc-js';
import type { ServerInterceptor } from '@grpc/grpc-js';
import { WhittleError } from '../errors.ts';
import { sameToken } from '../security/token.ts';
import { TOKEN_HEADER, TOKEN_SCHEME } from './credentials.ts';
import type { Refusals } from './refusals.ts';
import { toStatus } from './rpc-errors.ts';

/** What strangers may ask: whether the process serves. A probe has no token. */
const OPEN_METHODS: ReadonlySet<string> = new Set(['/grpc.health.v1.Health/Check']);

/** How a call may end without being worth a line: in order, by the caller, or to be tried again. */
const ORDINARY: ReadonlySet<number> = new Set([
  status.OK,
  status.CANCELLED,
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
]);

export interface AdmissionLimits {
  /** Calls that may be open at once, over all connections. */
  readonly openCalls: number;
  /** From the start of a stream to the caller's first message, in milliseconds: a session registers at once. */
  readonly firstMessageMilliseconds: number;
  /** How long a message may wait for a caller who does not read, in milliseconds. */
  readonly stallMilliseconds: number;
}

export interface AdmissionOptions extends AdmissionLimits {
  /** Null: none is asked for. */
  readonly token: string | null;
  readonly refusals: Refusals;
  /** The caller at `peer` (address:port) has shown the token. */
  readonly onAdmitted: (peer: string) => void;
  /** Ends a connection: a caller who does not read cannot be told anything. */
  readonly cut: (peer: string) => void;
}

type BaseCall = Parameters<ServerInterceptor>[1];

/** A call whose last message may still wait for its reader. */
class AdmittedCall extends ServerInterceptingCall {
  pendingSince: number | null = null;

  override sendMessage(message: unknown, callback: () => void): void {
    this.pendingSince = performance.now();
    super.sendMessage(message, () => {
      this.pendingSince = null;
      callback();
    });
  }
}

/**
 * The one place where calls are let in, streams and unary ones of all services: by token, by number, with a first
 * message in time; and where those who do not read are dropped. What it refuses has reached no handler, and its
 * messages are never decoded.
 */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #open = new Map<AdmittedCall, { readonly peer: string; readonly method: string }>();
  readonly #ticker: NodeJS.Timeout;

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#ticker = setInterval(() => this.#dropStalled(), Math.max(10, options.stallMilliseconds / 4)).unref();
  }

  close(): void {
    clearInterval(this.#ticker);
  }

  readonly interceptor: ServerInterceptor = (definition, call) => {
    const { path } = definition;
    const method = path.slice(path.lastIndexOf('/') + 1);
    const peer = call.getPeer();
    this.#logEnd(call, method, peer);
    let firstMessage: NodeJS.Timeout | undefined;
    const refuse = (error: WhittleError): void => {
      const { code, details } = toStatus(error);
      call.sendStatus({ code, details, metadata: new Metadata() });
    };
    const admitted: AdmittedCall = new AdmittedCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, proceed) => {
            const error = this.#check(path, metadata);
            if (error !== null) {
              refuse(error);
              return;
            }
            metadata.remove(TOKEN_HEADER);
            this.#open.set(admitted, { peer, method });
            if (definition.requestStream) {
              const { firstMessageMilliseconds } = this.#options;
              firstMessage = setTimeout(
                () => refuse(silent(method, firstMessageMilliseconds)),
                firstMessageMilliseconds,
              );
              firstMessage.unref();
            }
            if (!OPEN_METHODS.has(path)) this.#options.onAdmitted(peer);
            proceed(metadata);
          },
          onReceiveMessage: (message, proceed) => {
            clearTimeout(firstMessage);
            proceed(message);
          },
          onCancel: () => {
            clearTimeout(firstMessage);
            this.#open.delete(admitted);
          },
        }),
    });
    return admitted;
  };

  #check(path: string, metadata: Metadata): WhittleError | null {
    const { token, openCalls } = this.#options;
    if (token !== null && !OPEN_METHODS.has(path)) {
      const [given] = metadata.get(TOKEN_HEADER);
      if (given === undefined) {
        return new WhittleError('SECURITY', `the call carries no run token; ${TOKEN_CURE}`);
      }
      if (typeof given !== 'string' || !sameToken(given, TOKEN_SCHEME + token)) {
        return new WhittleError('SECURITY', `the call carries another token than this run's; ${TOKEN_CURE}`);
      }
    }
    if (this.#open.size >= openCalls) {
      return new WhittleError('PROTOCOL', `${openCalls} calls are open here, which is the most this role serves`);
    }
    return null;
  }

  /** Also of those that grpc-js itself ends: messages over the limit or not to be decoded. */
  #logEnd(call: BaseCall, method: string, peer: string): void {
    const sendStatus = call.sendStatus.bind(call);
    call.sendStatus = (end) => {
      const { code = status.UNKNOWN, details = '' } = end;
      if (!ORDINARY.has(code)) this.#options.refusals.add(peer, `${method}: ${details} (${status[code] ?? code})`);
      sendStatus(end);
    };
  }

  #dropStalled(): void {
    const now = performance.now();
    const { stallMilliseconds } = this.#options;
    for (const [{ pendingSince }, { peer, method }] of this.#open) {
      if (pendingSince === null || now - pendingSince < stallMilliseconds) continue;
      this.#options.refusals.add(
        peer,
        `${method}: the caller has read nothing for ${stallMilliseconds / 1000} s; its connection is cut`,
      );
      this.#options.cut(peer);
    }
  }
}

const TOKEN_CURE =
  'give the command this run: `--run-dir` of its roles, or `--certs` with the folder of its certificates';

function silent(method: string, milliseconds: number): WhittleError {
  return new WhittleError('PROTOCOL', `no message came on ${method} within ${milliseconds / 1000} s of its start`);
}
