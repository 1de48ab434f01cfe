// The certificates library's container looks for Reflect's metadata when it loads, so this comes first.
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';
import { randomBytes, webcrypto } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { diskError } from '../checkpoint/durable.ts';
import { WhittleError } from '../errors.ts';
import { CERTIFICATE_FILES } from './certificate-folder.ts';
import { newToken, writePrivate } from './token.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY = 86_400_000;
/** Clocks of machines differ: a certificate is valid from a little before it was made, in milliseconds. */
const CLOCK_SKEW = 3_600_000;
/** Every run may have roles on one machine. */
const ALWAYS = ['localhost', '127.0.0.1', '::1'];

export interface CertificateOptions {
  /** Names and addresses by which roles are reached, beside those of loopback. `*.example.org` covers one label. */
  readonly hosts: readonly string[];
  /** Days until they expire. */
  readonly days: number;
}

export interface MadeCertificates {
  readonly authority: string;
  readonly certificate: string;
  /** PKCS#8, PEM. */
  readonly key: string;
  readonly hosts: readonly string[];
  readonly expires: Date;
}

/**
 * A certificate authority for one run and one certificate, for all its roles. One for all, since any role may be
 * started again on any host and all are trusted alike: whoever may send a gradient may change every weight. The
 * authority's key is forgotten here, so that nobody can ever make a further member.
 */
export async function makeCertificates(options: CertificateOptions): Promise<MadeCertificates> {
  const hosts = [...new Set([...ALWAYS, ...options.hosts.map(checkedHost)])];
  const [authorityKeys, keys] = await Promise.all([newKeys(), newKeys()]);
  const notBefore = new Date(Date.now() - CLOCK_SKEW);
  const expires = new Date(Date.now() + options.days * DAY);
  const signing = { notBefore, notAfter: expires, signingAlgorithm: ALGORITHM };
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    ...signing,
    serialNumber: serialNumber(),
    name: `CN=Whittle run ${randomBytes(4).toString('hex')}`,
    keys: authorityKeys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(authorityKeys.publicKey),
    ],
  });
  const certificate = await x509.X509CertificateGenerator.create({
    ...signing,
    serialNumber: serialNumber(),
    subject: 'CN=Whittle role',
    issuer: authority.subject,
    publicKey: keys.publicKey,
    signingKey: authorityKeys.privateKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      // Roles are servers to some and clients of others.
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
      new x509.SubjectAlternativeNameExtension(
        hosts.map((value) => ({ type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(authorityKeys.publicKey),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
  return {
    authority: `${authority.toString('pem')}\n`,
    certificate: `${certificate.toString('pem')}\n`,
    key: `${x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n`,
    hosts,
    expires,
  };
}

/**
 * Writes a run's certificates and a new token to `folder`, which is made with mode 0700; key and token get mode 0600.
 * Errors: SECURITY where one of them exists, DISK.
 */
export async function writeCertificates(folder: string, made: MadeCertificates): Promise<void> {
  const at = (name: string): string => join(folder, name);
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw await diskError(folder, 0, error);
  }
  // The private ones first: a folder that has some already is left as it is.
  await writePrivate(at(CERTIFICATE_FILES.key), made.key);
  await writePrivate(at(CERTIFICATE_FILES.token), `${newToken()}\n`);
  for (const [name, text] of [
    [CERTIFICATE_FILES.authority, made.authority],
    [CERTIFICATE_FILES.certificate, made.certificate],
  ] as const) {
    try {
      await writeFile(at(name), text, { mode: 0o644, flag: 'wx' });
    } catch (error) {
      throw await diskError(at(name), text.length, error);
    }
  }
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

/** 127 bits: positive as a DER integer. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

function checkedHost(host: string): string {
  const name = host.trim();
  const isName = name.length <= 253 && /^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+$/.test(name);
  if (isIP(name) !== 0 || isName) return name.toLowerCase();
  throw new WhittleError(
    'USAGE',
    `host ${JSON.stringify(host)} is no name or address; give --hosts like node1,10.0.0.2,*.cluster.local, without ports`,
  );
}
