import { Ajv, type ValidateFunction } from 'ajv';
import { StatefulSet } from 'kubernetes-models/apps/v1';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1';
import { ConfigMap, PersistentVolumeClaim, Pod, Secret, Service } from 'kubernetes-models/v1';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KubernetesObject } from '../../../../deploy/launchers/kubernetes/objects.ts';
import { packageRoot } from '../../../../shared/package-root.ts';

/** The official schemas of the objects that a run has. JobSet's lies beside the repository, and may be absent. */
const JOB_SET_FILE = join(packageRoot, '..', 'shared', 'schemas', 'jobset-v1alpha2.schema.json');

/** Null: the schema is there. */
export const jobSetSchemaAbsent: string | null = existsSync(JOB_SET_FILE)
  ? null
  : `no JobSet schema at ${JOB_SET_FILE}: JobSets are not checked`;

interface Model {
  validate(): void;
}
const MODELS: Readonly<Record<string, new (data: never) => Model>> = {
  'v1 ConfigMap': ConfigMap,
  'v1 PersistentVolumeClaim': PersistentVolumeClaim,
  'v1 Pod': Pod,
  'v1 Secret': Secret,
  'v1 Service': Service,
  'apps/v1 StatefulSet': StatefulSet,
  'networking.k8s.io/v1 NetworkPolicy': NetworkPolicy,
  'policy/v1 PodDisruptionBudget': PodDisruptionBudget,
};

/** What is wrong with an object by its schema, or null. An object of an unknown kind is wrong. */
export function problemOf(object: KubernetesObject): string | null {
  if (object.apiVersion === 'jobset.x-k8s.io/v1alpha2' && object.kind === 'JobSet') return jobSetProblem(object);
  const model = MODELS[`${object.apiVersion} ${object.kind}`];
  if (model === undefined) return `${object.apiVersion} ${object.kind} is no object of a run`;
  try {
    new model(object as never).validate();
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

let validateJobSet: ValidateFunction | undefined;

function jobSetProblem(object: KubernetesObject): string | null {
  if (jobSetSchemaAbsent !== null) return null;
  validateJobSet ??= compile();
  if (validateJobSet(object)) return null;
  return (validateJobSet.errors ?? [])
    .map(({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`)
    .join('; ');
}

function compile(): ValidateFunction {
  const { schema } = JSON.parse(readFileSync(JOB_SET_FILE, 'utf8')) as { schema: Schema };
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  return ajv.compile({ ...strict(schema), required: ['apiVersion', 'kind', 'metadata', 'spec'] });
}

interface Schema {
  readonly [key: string]: unknown;
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
}

/** Refuses unknown keys, as the API does with `fieldValidation: Strict`; a misspelt key is silently dropped without. */
function strict(schema: Schema): Schema {
  const { properties, items } = schema;
  const { 'x-kubernetes-int-or-string': either, ...rest } = schema;
  return {
    ...(either === true ? { anyOf: [{ type: 'integer' }, { type: 'string' }] } : rest),
    ...(properties === undefined
      ? {}
      : {
          properties: Object.fromEntries(Object.entries(properties).map(([key, value]) => [key, strict(value)])),
          ...(schema['additionalProperties'] === undefined ? { additionalProperties: false } : {}),
        }),
    ...(items === undefined ? {} : { items: strict(items) }),
  };
}
