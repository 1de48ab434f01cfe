import { makeCertificates } from '../../../shared/security/make-certificates.ts';
import { newToken } from '../../../shared/security/token.ts';
import type { RunCredentials } from '../../../shared/rpc/credentials.ts';

/** Credentials of a run of its own: nobody else's fit them. */
export async function newCredentials(
  hosts: readonly string[] = [],
): Promise<RunCredentials & { readonly token: string }> {
  const { authority, certificate, key } = await makeCertificates({ hosts, days: 1 });
  return { token: newToken(), certificates: { authority, certificate, key } };
}
