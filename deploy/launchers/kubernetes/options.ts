import { WhittleError } from '../../../shared/errors.ts';
import type { Role } from '../../../shared/telemetry/run-status.ts';
import type { OptionValues } from '../../cli/command.ts';
import type { LauncherOptionDefinitions } from '../define.ts';

/** CPU and memory in Kubernetes' notation: `500m`, `2Gi`. */
export interface RoleResources {
  readonly cpu: string;
  readonly memory: string;
}

/** What a run asks of the cluster. */
export interface KubernetesOptions {
  readonly image: string;
  /** Null: the context's. */
  readonly namespace: string | null;
  /** Of the kubeconfig; null: the current one. */
  readonly context: string | null;
  /** Claim of a ReadWriteMany volume that holds the run directories of all runs; made where it is missing. */
  readonly claim: string;
  /** Null: the cluster's default. */
  readonly storageClass: string | null;
  readonly storageSize: string;
  /** Claim of the training data, mounted read-only where the run file looks for them. Null: the image has them. */
  readonly dataClaim: string | null;
  readonly resources: Readonly<Record<Role, RoleResources>>;
  /** NVIDIA GPUs of each worker. */
  readonly gpus: number;
  readonly imagePullSecret: string | null;
  readonly serviceAccount: string | null;
  /** Secret with ca.pem, cert.pem, key.pem and token. Null: made from what the run file names, or anew. */
  readonly certsSecret: string | null;
  /** Members of an etcd cluster that is deployed beside the run; 0: none. */
  readonly etcd: number;
  readonly etcdImage: string;
  /** Further files that the run file's modules need. */
  readonly include: readonly string[];
}

export const KUBERNETES_DEFAULTS: Omit<KubernetesOptions, 'image'> = {
  namespace: null,
  context: null,
  claim: 'whittle-runs',
  storageClass: null,
  storageSize: '10Gi',
  dataClaim: null,
  resources: {
    scheduler: { cpu: '500m', memory: '1Gi' },
    server: { cpu: '1', memory: '2Gi' },
    worker: { cpu: '2', memory: '4Gi' },
  },
  gpus: 0,
  imagePullSecret: null,
  serviceAccount: null,
  certsSecret: null,
  etcd: 0,
  etcdImage: 'quay.io/coreos/etcd:v3.5.21',
  include: [],
};

const { resources: standard } = KUBERNETES_DEFAULTS;
const standardResources = (['scheduler', 'server', 'worker'] as const)
  .map((role) => `${role}=${standard[role].cpu},${standard[role].memory}`)
  .join(' ');

/** As options of `launch` and `resume`. */
export const kubernetesFlags = {
  image: {
    type: 'string',
    label: 'IMAGE',
    description: 'image of Whittle, built from deploy/docker and pushed where the cluster pulls from; needed',
  },
  namespace: { type: 'string', label: 'NAME', description: "namespace of all objects; default: the context's" },
  context: { type: 'string', label: 'NAME', description: 'context of the kubeconfig; default: the current one' },
  claim: {
    type: 'string',
    label: 'NAME',
    description: `claim of a ReadWriteMany volume that keeps the run directories, made where it is missing; default: ${KUBERNETES_DEFAULTS.claim}`,
  },
  storageClass: { type: 'string', label: 'NAME', description: "of a claim that is made; default: the cluster's" },
  storageSize: {
    type: 'string',
    label: 'SIZE',
    description: `of a claim that is made; default: ${KUBERNETES_DEFAULTS.storageSize}`,
  },
  dataClaim: {
    type: 'string',
    label: 'NAME',
    description: 'claim of the data, mounted read-only where the run file looks for them; default: the image has them',
  },
  resources: {
    type: 'strings',
    label: 'ROLE=CPU,MEMORY',
    description: `what each pod of a role asks for, its memory being its limit too; repeatable; default: ${standardResources}`,
  },
  gpus: { type: 'integer', label: 'N', min: 0, max: 64, description: 'NVIDIA GPUs of each worker; default: 0' },
  imagePullSecret: { type: 'string', label: 'NAME', description: 'secret to pull the image with' },
  serviceAccount: { type: 'string', label: 'NAME', description: "of the pods; default: the namespace's" },
  certsSecret: {
    type: 'string',
    label: 'NAME',
    description:
      "secret with ca.pem, cert.pem, key.pem and token; default: made from the run file's security.certificates, or anew for this run",
  },
  etcd: {
    type: 'integer',
    label: 'N',
    min: 0,
    max: 7,
    description: 'deploy an etcd of 1, 3, 5 or 7 members beside the run and coordinate through it; default: 0, none',
  },
  etcdImage: { type: 'string', label: 'IMAGE', description: `default: ${KUBERNETES_DEFAULTS.etcdImage}` },
  include: {
    type: 'strings',
    label: 'FILE',
    description: "a file that the run file's modules import, sent along; repeatable",
  },
} as const satisfies LauncherOptionDefinitions;

const NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;
const QUANTITY = /^\d+(\.\d+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$/;
const IMAGE = /^[A-Za-z0-9][A-Za-z0-9._:/@-]*$/;

/** What the command line gave, completed and checked. Errors: USAGE, naming the option and the cure. */
export function kubernetesOptionsOf(flags: OptionValues<typeof kubernetesFlags>): KubernetesOptions {
  const { image, resources, include, ...given } = flags;
  if (image === undefined)
    throw wrong('--image is missing; build deploy/docker/Dockerfile, push it, and give its name', 'image');
  const known = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const options: KubernetesOptions = {
    ...KUBERNETES_DEFAULTS,
    ...known,
    image,
    include,
    resources: { ...standard, ...Object.fromEntries(resources.map(roleResources)) },
  };
  for (const [option, value] of [
    ['image', image],
    ['etcd-image', options.etcdImage],
  ] as const)
    if (!IMAGE.test(value))
      throw wrong(`--${option} "${value}" is no image; give one such as registry/whittle:1`, option);
  for (const [option, value] of [
    ['namespace', options.namespace],
    ['claim', options.claim],
    ['storage-class', options.storageClass],
    ['data-claim', options.dataClaim],
    ['image-pull-secret', options.imagePullSecret],
    ['service-account', options.serviceAccount],
    ['certs-secret', options.certsSecret],
  ] as const)
    if (value !== null && !NAME.test(value))
      throw wrong(`--${option} "${value}" is no name of Kubernetes'; use small letters, digits and dashes`, option);
  if (!QUANTITY.test(options.storageSize))
    throw wrong(`--storage-size "${options.storageSize}" is no quantity; give one such as 10Gi`, 'storage-size');
  if (options.etcd !== 0 && options.etcd % 2 === 0)
    throw wrong(
      `--etcd ${options.etcd} survives no more than ${options.etcd - 1} members do; give 1, 3, 5 or 7`,
      'etcd',
    );
  return options;
}

function roleResources(text: string): readonly [Role, RoleResources] {
  const [, role, cpu = '', memory = ''] = /^(scheduler|server|worker)=([^,]+),([^,]+)$/.exec(text) ?? [];
  if (role === undefined || !QUANTITY.test(cpu) || !QUANTITY.test(memory))
    throw wrong(`--resources "${text}" must be ROLE=CPU,MEMORY, such as worker=4,16Gi or server=500m,2Gi`, 'resources');
  return [role as Role, { cpu, memory }];
}

function wrong(message: string, option: string): WhittleError {
  return new WhittleError('USAGE', message, { data: { option: `--${option}` } });
}
