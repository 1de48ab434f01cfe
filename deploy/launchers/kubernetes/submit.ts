import { randomUUID, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename, join, posix } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseRunConfig } from '../../../shared/config/effective.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { CERTIFICATE_FILES, readCertificates } from '../../../shared/security/certificate-folder.ts';
import { newToken } from '../../../shared/security/token.ts';
import { RunDirectory } from '../../../shared/telemetry/run-directory.ts';
import type { LaunchPlan } from '../launcher.ts';
import type { ClusterApi, ObjectReference } from './api.ts';
import { readSecretFile, runSecret } from './companions.ts';
import { collectFiles } from './files.ts';
import { JOB_SET } from './job-set.ts';
import { runObjects } from './manifests.ts';
import { certificateHosts, PATHS, runNames } from './names.ts';
import { type KubernetesObject, ownedBy } from './objects.ts';
import type { KubernetesOptions } from './options.ts';
import type { RunParts } from './pod-template.ts';
import { writeClusterRecord } from './record.ts';

/** How long the objects of an earlier part of the run may take to go, in milliseconds: pods have 30 s to end. */
const REMOVAL_DEADLINE = 180_000;
/** Days until the certificates expire that are made for a run. */
const CERTIFICATE_DAYS = 365;

interface SecuritySettings {
  readonly certificates: string | null;
  readonly insecure: boolean;
}

/** What a run's objects are made from; nothing of the cluster is asked. Errors: USAGE. */
export function runParts(plan: LaunchPlan, config: RunConfig, options: KubernetesOptions, namespace: string): RunParts {
  if (plan.standbys > 0)
    throw new WhittleError(
      'USAGE',
      `--standbys ${plan.standbys}: on Kubernetes a lost scheduler's pod is replaced; leave the option out`,
    );
  const names = runNames(plan.runId, namespace);
  const secret = options.certsSecret ?? (securityOf(config).insecure ? null : names.secret);
  return {
    names,
    options,
    files: collectFiles(config, names, options, secret !== null),
    launchId: randomUUID(),
    resume: plan.resume === null ? null : checkpointInPod(plan.runId, plan.resume.folder),
    servers: plan.servers,
    workers: plan.workers,
    maxRestarts: plan.maxRestarts,
    secret,
    etcdPassword: process.env['WHITTLE_ETCD_PASSWORD'] !== undefined,
  };
}

function checkpointInPod(runId: string, folder: string | null): string {
  return folder === null ? 'newest' : posix.join(PATHS.runs, runId, 'checkpoints', basename(folder));
}

// The key `security` of the run file; absent in files of earlier versions.
function securityOf(config: RunConfig): SecuritySettings {
  const { security } = config as { readonly security?: SecuritySettings };
  return security ?? { certificates: null, insecure: false };
}

/**
 * Makes all objects of a run: the JobSet first, suspended, so that it can own the others, which go when it goes; it is
 * let loose when all are there. Nothing is left behind where that fails.
 * Errors: RUN_LOCKED where the run is on the cluster and has not ended; what the API refuses.
 */
export async function submitRun(
  api: ClusterApi,
  plan: LaunchPlan,
  options: KubernetesOptions,
  tell: (line: string) => void,
): Promise<RunParts> {
  const runFile = new RunDirectory(plan.runDirectory).runFile;
  const config = parseRunConfig(await readFile(runFile, 'utf8'), runFile);
  const parts = runParts(plan, config, options, api.namespace);
  const { names } = parts;
  for (const note of parts.files.notes) tell(note);
  const owner: ObjectReference = { ...JOB_SET, name: names.jobSet };
  await removeEnded(api, owner, plan, tell);
  const objects = runObjects(parts, true);
  const { claim } = objects;
  if ((await api.read({ ...claim, name: claim.metadata.name })) === null) {
    await api.create(claim);
    tell(`made claim ${claim.metadata.name} for run directories`);
  }
  const secrets = await secretValues(parts, config);
  const { uid } = (await api.create(objects.jobSet)).metadata;
  try {
    const secret = Object.keys(secrets).length === 0 ? [] : [runSecret(names, secrets)];
    const reference = { ...JOB_SET, name: names.jobSet, uid, controller: false, blockOwnerDeletion: true };
    for (const object of [...objects.companions, ...secret]) await api.create(ownedBy(object, reference));
    await api.patch(owner, { spec: { suspend: false } });
    await writeClusterRecord(plan.runDirectory, {
      runId: plan.runId,
      context: api.context,
      namespace: api.namespace,
      jobSet: names.jobSet,
      claim: options.claim,
    });
  } catch (error) {
    await api.remove(owner, 'Background').catch(() => undefined);
    throw error;
  }
  tell(`submitted JobSet ${names.jobSet} in namespace ${names.namespace}`);
  return parts;
}

/** The JobSet of an earlier part of the run, with all that it owns, makes way for the next. */
async function removeEnded(
  api: ClusterApi,
  owner: ObjectReference,
  plan: LaunchPlan,
  tell: (line: string) => void,
): Promise<void> {
  const found = await api.read(owner);
  if (found === null) return;
  if (jobSetEnd(found) === null)
    throw new WhittleError(
      'RUN_LOCKED',
      `run ${plan.runId} is JobSet ${owner.name} in namespace ${api.namespace}, which has not ended; end it with \`whittle stop ${plan.runId}\``,
      { data: { ...owner, namespace: api.namespace } },
    );
  tell(`removing JobSet ${owner.name} of the run's earlier part`);
  await api.remove(owner, 'Foreground');
  for (const end = Date.now() + REMOVAL_DEADLINE; (await api.read(owner)) !== null; await sleep(500)) {
    if (Date.now() > end)
      throw new WhittleError(
        'DEADLINE',
        `waited ${REMOVAL_DEADLINE / 1000} s for JobSet ${owner.name} to be deleted; see kubectl describe jobset ${owner.name} --namespace ${api.namespace}`,
      );
  }
}

/** How a JobSet ended, or null while it goes on. */
export function jobSetEnd(jobSet: KubernetesObject): { readonly failed: boolean; readonly message: string } | null {
  const { conditions = [] } = (jobSet['status'] ?? {}) as {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
  };
  const end = conditions.find(({ type, status }) => (type === 'Completed' || type === 'Failed') && status === 'True');
  return end === undefined ? null : { failed: end.type === 'Failed', message: end.message ?? '' };
}

/** What the run's own Secret holds, by key; nothing where others hold it all. */
async function secretValues(parts: RunParts, config: RunConfig): Promise<Record<string, string>> {
  const values: Record<string, string> = {};
  for (const { key, file } of parts.files.etcdSecrets) values[key] = readSecretFile(file);
  const password = process.env['WHITTLE_ETCD_PASSWORD'];
  if (parts.etcdPassword && password !== undefined) values['etcd-password'] = password;
  if (parts.secret === parts.names.secret) Object.assign(values, await certificateValues(parts, config));
  return values;
}

/** The certificates that the run file names, or new ones for this run alone, which only the cluster then has. */
async function certificateValues(parts: RunParts, config: RunConfig): Promise<Record<string, string>> {
  const { certificates } = securityOf(config);
  const hosts = certificateHosts(parts.names, parts.options.etcd > 0);
  const { authority: ca, certificate: cert, key, token } = CERTIFICATE_FILES;
  if (certificates !== null) {
    const given = await readCertificates(certificates);
    const files = [ca, cert, key, token].map((file) => [file, readSecretFile(join(certificates, file))] as const);
    requireHosts(given.certificate, hosts, certificates);
    return Object.fromEntries(files);
  }
  // Loaded late: the library takes longer than all the rest of a command.
  const { makeCertificates } = await import('../../../shared/security/make-certificates.ts');
  const made = await makeCertificates({ hosts, days: CERTIFICATE_DAYS });
  return { [ca]: made.authority, [cert]: made.certificate, [key]: made.key, [token]: `${newToken()}\n` };
}

/** Pods would refuse each other, each for itself, in logs; better said here. */
function requireHosts(certificate: string, hosts: readonly string[], folder: string): void {
  const { subjectAltName = '' } = new X509Certificate(certificate);
  const missing = hosts.filter((host) => !subjectAltName.split(', ').includes(`DNS:${host}`));
  if (missing.length === 0) return;
  throw new WhittleError(
    'SECURITY',
    `the certificate in ${folder} is not for ${missing.join(', ')}; make one with \`whittle certs --out DIR --hosts '${hosts.join(',')}'\`, or leave security.certificates out: one is made for the run`,
    { data: { folder, missing } },
  );
}
