import { isIP } from 'node:net';
import { checkServerIdentity, createSecureContext } from 'node:tls';
import { ChannelCredentials, Metadata, ServerCredentials } from '@grpc/grpc-js';
import type { ChannelOptions, ClientOptions } from '@grpc/grpc-js';
import type { Certificates } from '../security/certificate-folder.ts';

/** What the members of a run show each other. */
export interface RunCredentials {
  /** Goes with every call; null: none is sent, and none is asked for. */
  readonly token: string | null;
  /** Mutual TLS; null: plain text, for loopback. */
  readonly certificates: Certificates | null;
}

/** How a role's server listens, besides host and port. */
export interface ListenSettings {
  /** Listen off loopback also without certificates. */
  readonly insecure?: boolean | undefined;
  /** Name or address by which others reach this role; default: the bound address, or the machine's name. */
  readonly advertise?: string | undefined;
  /** A port of its own, plain text, that answers health checks and nothing else: probes have no certificate. */
  readonly healthPort?: number | undefined;
}

const NONE: RunCredentials = { token: null, certificates: null };
let current: RunCredentials = NONE;
let listening: ListenSettings = {};

/**
 * Sets what this process's clients and servers use from now on where they are not given their own. A role process
 * belongs to one run and calls it once, before anything else; a process that follows several runs passes
 * credentials to each client.
 */
export function useCredentials(credentials: RunCredentials, settings: ListenSettings = {}): void {
  current = credentials;
  listening = settings;
}

export function currentCredentials(): RunCredentials {
  return current;
}

export function listenSettings(): ListenSettings {
  return listening;
}

/** Name of the metadata that carries the token: `Bearer TOKEN`. */
export const TOKEN_HEADER = 'authorization';
export const TOKEN_SCHEME = 'Bearer ';

/**
 * The server's certificate must cover the host of its address (`host:port`). An address is no name that TLS may
 * announce (RFC 6066), so for one another name is announced and the address checked here.
 */
export function channelCredentials({ certificates }: RunCredentials, address: string): ChannelCredentials {
  if (certificates === null) return ChannelCredentials.createInsecure();
  const { authority, certificate, key } = certificates;
  const host = hostOf(address);
  return ChannelCredentials.createFromSecureContext(
    createSecureContext({ ca: authority, cert: certificate, key, minVersion: 'TLSv1.3' }),
    { checkServerIdentity: (_announced, peer) => checkServerIdentity(host, peer) },
  );
}

/** Options of a channel to `address` that go with its credentials. */
export function channelNames(address: string): ChannelOptions {
  return isIP(hostOf(address)) === 0 ? {} : { 'grpc.ssl_target_name_override': 'whittle.invalid' };
}

function hostOf(address: string): string {
  return address.slice(0, address.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1');
}

/** Clients without a certificate of the same authority are refused in the handshake. */
export function serverCredentials({ certificates }: RunCredentials): ServerCredentials {
  if (certificates === null) return ServerCredentials.createInsecure();
  const { authority, certificate, key } = certificates;
  return ServerCredentials.createSsl(
    Buffer.from(authority),
    [{ private_key: Buffer.from(key), cert_chain: Buffer.from(certificate) }],
    true,
  );
}

/** Options of a client that add the token to each call, once a call and not once a message. */
export function tokenOptions({ token }: RunCredentials): ClientOptions {
  if (token === null) return {};
  const metadata = new Metadata();
  metadata.set(TOKEN_HEADER, `${TOKEN_SCHEME}${token}`);
  return {
    callInvocationTransformer: (properties) => {
      properties.metadata.merge(metadata);
      return properties;
    },
  };
}
