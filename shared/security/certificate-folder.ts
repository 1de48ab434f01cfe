import { X509Certificate, createPrivateKey } from 'node:crypto';
import { join } from 'node:path';
import { WhittleError } from '../errors.ts';
import { TOKEN_FILE, readSecret, readToken, requirePrivate } from './token.ts';
import type { ReadTokenOptions } from './token.ts';

/** Files of a folder that `whittle certs` made. */
export const CERTIFICATE_FILES = { authority: 'ca.pem', certificate: 'cert.pem', key: 'key.pem', token: TOKEN_FILE };

/** One certificate for all roles of a run, PEM. */
export interface Certificates {
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
}

/**
 * Reads and checks a folder of certificates and its token. `insecure` lets pass a key that everybody may read.
 * Errors: SECURITY where a file is missing, damaged, expired or does not fit the others.
 */
export async function readCertificates(
  folder: string,
  options: ReadTokenOptions & { readonly now?: Date } = {},
): Promise<Certificates & { readonly token: string }> {
  const [caPath, certPath, keyPath, tokenPath] = [
    join(folder, CERTIFICATE_FILES.authority),
    join(folder, CERTIFICATE_FILES.certificate),
    join(folder, CERTIFICATE_FILES.key),
    join(folder, CERTIFICATE_FILES.token),
  ];
  if (options.insecure !== true) await requirePrivate(keyPath);
  const authority = await readSecret(caPath);
  const certificate = await readSecret(certPath);
  const key = await readSecret(keyPath);
  const now = options.now ?? new Date();
  const issuer = parsed(caPath, () => new X509Certificate(authority));
  const leaf = parsed(certPath, () => new X509Certificate(certificate));
  const privateKey = parsed(keyPath, () => createPrivateKey(key));
  if (!leaf.checkPrivateKey(privateKey)) throw unfit(keyPath, `is not the key of ${certPath}`);
  if (!leaf.verify(issuer.publicKey)) throw unfit(certPath, `was not issued by ${caPath}`);
  for (const [path, each] of [
    [caPath, issuer],
    [certPath, leaf],
  ] as const) {
    if (Date.parse(each.validFrom) > now.getTime())
      throw unfit(path, `is valid from ${each.validFrom} on; is this machine's clock right?`);
    if (Date.parse(each.validTo) <= now.getTime()) throw unfit(path, `expired on ${each.validTo}`);
  }
  const token = await readToken(tokenPath, options);
  return { authority, certificate, key, token };
}

function parsed<T>(path: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    throw unfit(path, 'is not PEM as `whittle certs` writes it', cause);
  }
}

function unfit(path: string, what: string, cause?: unknown): WhittleError {
  return new WhittleError('SECURITY', `${path} ${what}; make new certificates with \`whittle certs --out DIR\``, {
    cause,
    data: { path },
  });
}
