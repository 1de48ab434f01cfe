import { resolve } from 'node:path';
import * as z from 'zod';
import { mapping, whole } from './fields.ts';
import type { Problem } from './source.ts';
import type { CoordinationConfig } from './types.ts';

/*
 * The run file's key `coordination`: where the members of a run agree on generation, latest checkpoint and scheduler.
 */

const endpointError = 'must be an address of etcd, such as http://etcd-0:2379 (https:// with TLS)';
const endpoint = z
  .string({ error: endpointError })
  .regex(/^https?:\/\/([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):\d{1,5}$/, { error: endpointError });
const endpointsError = 'must be a list of addresses of etcd, such as [http://etcd-0:2379, http://etcd-1:2379]';
const prefixError = 'must be letters, digits, dots, dashes, underscores and slashes between them';

const text = (about: string) =>
  z.string({ error: 'must be text' }).min(1, { error: 'must be text that is not empty' }).describe(about);
const file = (about: string) =>
  z.string({ error: 'must be a path' }).min(1, { error: 'must be a path' }).describe(about);

const etcd = mapping('an etcd cluster, version 3.4 or newer', {
  endpoints: z
    .array(endpoint, { error: endpointsError })
    .min(1, { error: endpointsError })
    .max(16, { error: 'must be at most 16 addresses' })
    .describe('addresses of its members; one that is lost is not noticed while most are there'),
  prefix: z
    .string({ error: prefixError })
    .regex(/^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/, { error: prefixError })
    .describe('all keys of a run begin with PREFIX/RUN-ID/; run ids must differ under it; default whittle')
    .default('whittle'),
  username: text('user of etcd; default none').optional(),
  password: text('its password; better left out of the file and given as WHITTLE_ETCD_PASSWORD').optional(),
  certificates: mapping('TLS, for https endpoints; default: the certificate authorities that Node knows', {
    ca: file("PEM of the authority that signed etcd's certificate, relative to the run file"),
    certificate: file('PEM of our own certificate, where etcd asks for one').optional(),
    key: file('PEM of its key').optional(),
  }).optional(),
  leaseSeconds: whole('a scheduler or member that does not renew for so long counts as lost, 3 to 300; default 10', {
    min: 3,
    max: 300,
  }).default(10),
  deadlineSeconds: whole('how long an operation waits for an etcd that is lost, 1 to 3600; default 60', {
    min: 1,
    max: 3600,
  }).default(60),
});

const choiceError = 'must be embedded, or {etcd: {endpoints: [http://HOST:2379]}}';

export const coordinationSchema = z
  .union([z.literal('embedded', { error: choiceError }), mapping('a service that survives any host', { etcd })], {
    error: choiceError,
  })
  .describe('embedded: files in the run directory; {etcd: ...}: a service, with standby schedulers; default embedded')
  .default('embedded');

type Document = z.output<typeof coordinationSchema>;

/** What does not fit together within the key. */
export function coordinationProblems(coordination: Document): Problem[] {
  if (coordination === 'embedded') return [];
  const { endpoints, username, password, certificates } = coordination.etcd;
  const at = (key: string, message: string): Problem => ({
    path: ['coordination', 'etcd', key],
    message: `coordination.etcd.${key} ${message}`,
  });
  const secure = endpoints.filter((each) => each.startsWith('https:')).length;
  const problems: Problem[] = [];
  if (secure > 0 && secure < endpoints.length)
    problems.push(at('endpoints', 'mixes http:// and https://; use one of them for all'));
  if (secure === 0 && certificates !== undefined)
    problems.push(at('certificates', 'needs endpoints with https://, they have http://'));
  if ((certificates?.certificate === undefined) !== (certificates?.key === undefined))
    problems.push(at('certificates', 'has only one of certificate and key; give both or none'));
  if (password !== undefined && username === undefined)
    problems.push(at('password', 'needs coordination.etcd.username; add it'));
  return problems;
}

/** Paths made absolute. */
export function resolveCoordination(coordination: Document, folder: string): CoordinationConfig {
  if (coordination === 'embedded') return coordination;
  const { username, password, certificates, ...rest } = coordination.etcd;
  return {
    etcd: {
      ...rest,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(certificates === undefined
        ? {}
        : {
            certificates: {
              ca: resolve(folder, certificates.ca),
              ...(certificates.certificate === undefined || certificates.key === undefined
                ? {}
                : { certificate: resolve(folder, certificates.certificate), key: resolve(folder, certificates.key) }),
            },
          }),
    },
  };
}
