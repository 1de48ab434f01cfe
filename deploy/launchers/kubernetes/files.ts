import { readFileSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, posix, relative, resolve, sep } from 'node:path';
import { runConfigToYaml } from '../../../shared/config/effective.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { DEBIAN_PACKAGE } from '../../../worker/data/fashion-mnist.ts';
import { etcdDomainOf, PATHS, type RunNames } from './names.ts';
import type { KubernetesOptions } from './options.ts';

export const RUN_FILE_KEY = 'run.yaml';
/** A ConfigMap holds at most 1 MiB, the names of its keys included; etcd refuses a larger one. */
const LARGEST = 1_000_000;

/** One file of the run as a ConfigMap keeps it: keys have no slashes, paths have. */
export interface RunFileEntry {
  readonly key: string;
  /** Below PATHS.files. */
  readonly path: string;
  readonly text: string;
}

/** Secret files that the run file names, to be sent as keys of the run's Secret. */
export interface SecretSource {
  readonly key: string;
  /** Absolute, here. */
  readonly file: string;
}

export interface RunFiles {
  /** The run file as pods see it, and the modules it names. */
  readonly entries: readonly RunFileEntry[];
  readonly etcdSecrets: readonly SecretSource[];
  /** Where the data's claim is mounted, or null: the run needs none. */
  readonly dataFolder: string | null;
  readonly environment: Readonly<Record<string, string>>;
  readonly notes: readonly string[];
}

/**
 * What a run's pods get of the files here: the run file with the paths of the pods, and the modules it names.
 * Errors: USAGE where they are too large together; DATA, MODEL where one cannot be read.
 */
export function collectFiles(
  config: RunConfig,
  names: RunNames,
  options: KubernetesOptions,
  hasCertificates: boolean,
): RunFiles {
  const { source } = config.data;
  const modules = [config.model, ...(typeof source === 'string' ? [source] : [])].filter(isAbsolute);
  const files = [...new Set([...modules, ...options.include.map((file) => resolve(file))])];
  const base = commonFolder(files);
  const inPod = (file: string): string => posix.join(PATHS.files, podPath(base, file));
  const etcd = placeEtcd(config, names, options, hasCertificates);
  const moved = {
    ...config,
    model: isAbsolute(config.model) ? inPod(config.model) : config.model,
    data: { ...config.data, source: typeof source === 'string' && isAbsolute(source) ? inPod(source) : source },
    ...etcd.changes,
  };
  const entries = [
    { key: RUN_FILE_KEY, path: RUN_FILE_KEY, text: runConfigToYaml(moved) },
    ...files.map((file, k) => ({ key: `file-${k}`, path: podPath(base, file), text: read(file) })),
  ];
  const size = entries.reduce((sum, { text, path }) => sum + Buffer.byteLength(text) + path.length, 0);
  if (size > LARGEST)
    throw new WhittleError(
      'USAGE',
      `the run file and its modules take ${size} bytes, and a ConfigMap holds ${LARGEST}; put what is large into the image or a volume`,
      { data: { size, largest: LARGEST } },
    );
  const data = placeData(config, options);
  return { entries, etcdSecrets: etcd.secrets, ...data, notes: [...data.notes, ...notesOnTrained(config)] };
}

/** Trained models are too large for a ConfigMap. */
function notesOnTrained({ initialize, distillation }: RunConfig): string[] {
  const paths = [initialize?.from, distillation?.teacher].filter((path) => path !== undefined);
  return paths.map(
    (path) => `pods look for the trained model in ${path}: it must be in the image or on a volume there`,
  );
}

/** Data files stay where they are: the claim is mounted at the folder that the run file names. */
function placeData(
  config: RunConfig,
  { dataClaim }: KubernetesOptions,
): Pick<RunFiles, 'dataFolder' | 'environment' | 'notes'> {
  const { source } = config.data;
  const none = { dataFolder: dataClaim === null ? null : PATHS.data, environment: {}, notes: [] };
  if (source === 'fashion-mnist') {
    if (dataClaim !== null) return { ...none, environment: { WHITTLE_DATA: PATHS.data } };
    return { ...none, ...imageHasThem(`$WHITTLE_DATA/fashion-mnist or ${DEBIAN_PACKAGE.folder}`) };
  }
  if (typeof source === 'string') return none;
  const folder =
    'idx' in source
      ? source.idx
      : commonFolder([source.csv.train, ...(source.csv.test === null ? [] : [source.csv.test])]);
  return dataClaim === null ? { ...none, ...imageHasThem(folder) } : { ...none, dataFolder: folder };
}

function imageHasThem(folder: string): Pick<RunFiles, 'notes'> {
  return { notes: [`pods look for the data in ${folder} of the image; --data-claim mounts a volume there`] };
}

// The keys `coordination` and `security` as later versions of the run file have them; absent: embedded, none.
interface EtcdSettings {
  readonly endpoints: readonly string[];
  readonly certificates?: { readonly ca: string; readonly certificate?: string; readonly key?: string };
}

function placeEtcd(
  config: RunConfig,
  names: RunNames,
  options: KubernetesOptions,
  hasCertificates: boolean,
): { changes: Record<string, unknown>; secrets: SecretSource[] } {
  const { coordination, security } = config as Partial<Record<'coordination' | 'security', unknown>>;
  const given = (coordination as { etcd?: EtcdSettings } | undefined)?.etcd;
  // The role commands are told where the certificates lie; a path of this machine would only mislead.
  const changes: Record<string, unknown> =
    security === undefined ? {} : { security: { ...(security as object), certificates: null } };
  if (options.etcd > 0) {
    if (given !== undefined)
      throw new WhittleError(
        'USAGE',
        `the run file names an etcd, ${given.endpoints.join(', ')}, and --etcd ${options.etcd} deploys another; leave one out`,
      );
    const secret = (file: string): string => posix.join(PATHS.secrets, file);
    const members = Array.from({ length: options.etcd }, (_, k) => `${names.etcd}-${k}.${etcdDomainOf(names)}`);
    const etcd: EtcdSettings = {
      endpoints: members.map((host) => `${hasCertificates ? 'https' : 'http'}://${host}:2379`),
      ...(hasCertificates
        ? { certificates: { ca: secret('ca.pem'), certificate: secret('cert.pem'), key: secret('key.pem') } }
        : {}),
    };
    return { changes: { ...changes, coordination: { etcd } }, secrets: [] };
  }
  if (given?.certificates === undefined) return { changes, secrets: [] };
  const secrets = Object.entries(given.certificates).map(([name, file]) => ({ key: `etcd-${name}.pem`, file }));
  const certificates = Object.fromEntries(
    Object.keys(given.certificates).map((name) => [name, posix.join(PATHS.secrets, `etcd-${name}.pem`)]),
  );
  return { changes: { ...changes, coordination: { etcd: { ...given, certificates } } }, secrets };
}

/** The deepest folder that holds all of the files; '/' for none. */
function commonFolder(files: readonly string[]): string {
  const [first, ...others] = files.map((file) => dirname(file).split(sep));
  if (first === undefined) return sep;
  const shared = first.findIndex((part, k) => others.some((parts) => parts[k] !== part));
  return join(sep, ...(shared < 0 ? first : first.slice(0, shared)));
}

function podPath(base: string, file: string): string {
  const path = relative(base, file).split(sep).join(posix.sep);
  // The run file of the pods has that name already.
  return path === RUN_FILE_KEY ? `include-${basename(path)}` : path;
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new WhittleError('USAGE', `${file} cannot be read: ${(cause as Error).message}; check the path`, { cause });
  }
}
