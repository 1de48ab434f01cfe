import * as z from 'zod';
import { runFileSchema } from './schema.ts';

/**
 * JSON schema of the run file, for editors: meaning, unit, range and default of every key. The committed
 * run-file.schema.json is this function's answer; a test compares them.
 */
export function runFileJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(runFileSchema, { io: 'input', target: 'draft-7' }) as Record<string, unknown>;
  return { ...schema, title: 'Whittle run file' };
}
