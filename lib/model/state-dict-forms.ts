/** The forms in which exporters store tensors of PyTorch's state_dict. */

/** A tensor of a state_dict. */
export interface StateTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float64Array;
  /** The tensor that it shares its memory with, where the file of the state_dict says so. */
  readonly tiedTo?: string;
}

/** A way to make a stored tensor of tensors of the state_dict: a permutation of their numbers. */
export interface Form {
  readonly rule: "value" | "transposed" | "reshaped" | "packed";
  readonly names: readonly string[];
  readonly shape: readonly number[];
  /** The stored numbers, of those of `names` in their order. */
  assemble(parts: readonly Float64Array[]): Float64Array;
}

export const sizeOf = (shape: readonly number[]) => shape.reduce((product, n) => product * n, 1);

export const sameShape = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((n, i) => n === b[i]);

export function transpose(values: Float64Array, rows: number, columns: number): Float64Array {
  const turned = new Float64Array(values.length);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) turned[c * rows + r] = values[r * columns + c]!;
  return turned;
}

/** Equal numbers, those of the state_dict perhaps rounded to float32. */
export function sameValues(stored: Float64Array, state: Float64Array): boolean {
  if (stored.length !== state.length) return false;
  for (let i = 0; i < stored.length; i++) if (!sameValue(stored[i]!, state[i]!)) return false;
  return true;
}

const sameValue = (stored: number, state: number) =>
  stored === state || stored === Math.fround(state);

/** Whether a stored tensor is the form of these tensors. */
export function matches(form: Form, stored: Float64Array, parts: readonly Float64Array[]): boolean {
  if (form.rule === "transposed") {
    // Most are told from others by a few numbers, before all are turned.
    const [rows, columns] = form.shape as [number, number];
    const [state] = parts as [Float64Array];
    for (const [r, c] of [
      [0, 1],
      [1, 0],
      [rows - 1, columns - 2],
    ] as const)
      if (!sameValue(stored[r * columns + c]!, state[c * rows + r]!)) return false;
  }
  return sameValues(stored, form.assemble(parts));
}

/** Whether two numbers of a tensor differ: new layers hold many equal tensors of ones and zeros. */
export const varies = (values: Float64Array) => values.some((x) => x !== values[0]);

/** Rows of gates: PyTorch's blocks in the order of ONNX, by how many gates a layer has. */
const GATES: Record<number, readonly number[]> = {
  1: [0],
  3: [1, 0, 2], // GRU: r z n -> z r h
  4: [0, 3, 1, 2], // LSTM: i f g o -> i o f c
};

function reorder(values: Float64Array, order: readonly number[]): Float64Array {
  const size = values.length / order.length;
  const out = new Float64Array(values.length);
  order.forEach((from, to) => {
    out.set(values.subarray(from * size, (from + 1) * size), to * size);
  });
  return out;
}

function concat(parts: readonly Float64Array[]): Float64Array {
  const out = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** W, R and B of the recurrent layers of a state_dict, as ONNX's LSTM, GRU and RNN take them. */
function packedForms(tensors: ReadonlyMap<string, StateTensor>): Form[] {
  const forms: Form[] = [];
  for (const { name, shape } of tensors.values()) {
    const [, prefix, layer] = /^(.*)weight_ih_l(\d+)$/.exec(name) ?? [];
    const hidden = tensors.get(`${prefix}weight_hh_l${layer}`)?.shape[1];
    const order = hidden === undefined ? undefined : GATES[shape[0]! / hidden];
    if (!order) continue;
    const directions = ["", "_reverse"].filter((d) => tensors.has(`${name}${d}`));
    // Both directions in one node, or a node for each.
    const groups = directions.length > 1 ? [directions, ...directions.map((d) => [d])] : [[""]];
    const rows = order.length * hidden!;
    for (const group of groups) {
      const add = (kinds: string[], lengths: number[]) => {
        const names = group.flatMap((d) => kinds.map((kind) => `${prefix}${kind}_l${layer}${d}`));
        if (!names.every((each) => tensors.has(each))) return;
        forms.push({
          rule: "packed",
          names,
          shape: [group.length, ...lengths],
          assemble: (parts) => concat(parts.map((part) => reorder(part, order))),
        });
      };
      add(["weight_ih"], [rows, shape[1]!]);
      add(["weight_hh"], [rows, hidden!]);
      add(["bias_ih", "bias_hh"], [2 * rows]);
    }
  }
  return forms;
}

/** All forms, by the number of their elements. */
export function formsBySize(tensors: ReadonlyMap<string, StateTensor>): Map<number, Form[]> {
  const forms: Form[] = [];
  const asIs = (parts: readonly Float64Array[]) => parts[0]!;
  for (const { name, shape } of tensors.values()) {
    forms.push({ rule: "value", names: [name], shape, assemble: asIs });
    const [rows, columns] = shape;
    if (shape.length === 2 && rows! > 1 && columns! > 1)
      forms.push({
        rule: "transposed",
        names: [name],
        shape: [columns!, rows!],
        assemble: ([part]) => transpose(part!, rows!, columns!),
      });
  }
  forms.push(...packedForms(tensors));
  const bySize = new Map<number, Form[]>();
  for (const form of forms) {
    const size = sizeOf(form.shape);
    bySize.set(size, [...(bySize.get(size) ?? []), form]);
  }
  return bySize;
}

// ---- parts of tensors

/** Consecutive rows of a tensor, as they are or transposed. */
export interface RowsFound {
  readonly name: string;
  readonly first: number;
  readonly count: number;
  readonly transposed: boolean;
}

/** Where a stored tensor is some rows of one of the state_dict, such as used positions. */
export function findRows(
  shape: readonly number[],
  values: Float64Array,
  tensors: Iterable<StateTensor>,
): RowsFound[] {
  const found: RowsFound[] = [];
  if (!varies(values) || values.length < 2) return found;
  const turned = shape.length === 2 ? transpose(values, shape[0]!, shape[1]!) : undefined;
  for (const { name, shape: whole, values: all } of tensors) {
    const width = sizeOf(whole.slice(1));
    if (all.length <= values.length || whole.length === 0) continue;
    for (const [part, count, transposed] of [
      [values, values.length / width, false],
      [turned, shape[1]! === width ? 0 : shape[0]! === width ? shape[1]! : 0, true],
    ] as const) {
      if (!part || !Number.isInteger(count) || count < 1 || count >= whole[0]!) continue;
      for (let first = 0; first + count <= whole[0]!; first++)
        if (sameValues(part, all.subarray(first * width, (first + count) * width)))
          found.push({ name, first, count, transposed });
    }
  }
  return found;
}

// ---- batch norm

/** The four tensors of a batch norm in the state_dict; without scale and shift they are 1 and 0. */
export interface BatchNorm {
  readonly prefix: string;
  readonly names: readonly string[];
  readonly scale: (channel: number, epsilon: number) => number;
  readonly mean: Float64Array;
  readonly beta: Float64Array | undefined;
}

export function batchNorms(tensors: ReadonlyMap<string, StateTensor>): BatchNorm[] {
  const norms: BatchNorm[] = [];
  for (const { name, values: mean } of tensors.values()) {
    if (!/(^|\.)running_mean$/.test(name)) continue;
    const prefix = name.slice(0, -"running_mean".length);
    const part = (last: string) => tensors.get(prefix + last);
    const variance = part("running_var");
    if (!variance) continue;
    const gamma = part("weight");
    norms.push({
      prefix: prefix.replace(/\.$/, ""),
      names: ["weight", "bias", "running_mean", "running_var"]
        .map((last) => prefix + last)
        .filter((each) => tensors.has(each)),
      scale: (c, epsilon) => (gamma?.values[c] ?? 1) / Math.sqrt(variance.values[c]! + epsilon),
      mean,
      beta: part("bias")?.values,
    });
  }
  return norms;
}

/** Numbers that batch norms add to variances; the state_dict does not have it. */
const EPSILONS = [1e-5, 1e-3, 1e-4, 1e-6, 1e-2, 1e-8, 1e-12, 0];

/** Fused numbers are rounded to float32 a few times. */
const TOLERANCE = 2e-6;

/**
 * The factors of a weight's channels that make it another, NaN where both are 0; undefined where
 * there are none.
 */
export function channelFactors(
  stored: Float64Array,
  state: Float64Array,
  shape: readonly number[],
  axis: number,
): Float64Array | undefined {
  const channels = shape[axis]!;
  const inner = sizeOf(shape.slice(axis + 1));
  const outer = sizeOf(shape.slice(0, axis));
  const factors = new Float64Array(channels);
  for (let c = 0; c < channels; c++) {
    let dot = 0;
    let square = 0;
    let largest = 0;
    const each = (use: (i: number) => void) => {
      for (let o = 0; o < outer; o++)
        for (let i = 0; i < inner; i++) use((o * channels + c) * inner + i);
    };
    each((i) => {
      dot += stored[i]! * state[i]!;
      square += state[i]! ** 2;
      largest = Math.max(largest, Math.abs(stored[i]!));
    });
    factors[c] = square === 0 && largest === 0 ? Number.NaN : dot / square;
    let worst = 0;
    each((i) => {
      worst = Math.max(worst, Math.abs(stored[i]! - factors[c]! * state[i]!));
    });
    if (!(worst <= TOLERANCE * largest) && largest > 0) return undefined;
    if (square === 0 && largest > 0) return undefined;
  }
  return factors;
}

/** A batch norm that scales channels by these factors, with its epsilon. */
export function scalesBy(norm: BatchNorm, factors: Float64Array): number | undefined {
  if (norm.mean.length !== factors.length || factors.every(Number.isNaN)) return undefined;
  return EPSILONS.find((epsilon) =>
    factors.every((factor, c) => {
      const wanted = norm.scale(c, epsilon);
      return Number.isNaN(factor) || Math.abs(factor - wanted) <= TOLERANCE * Math.abs(wanted);
    }),
  );
}

/** Whether the stored bias is that of a convolution with the batch norm after it. */
export function shiftsTo(
  norm: BatchNorm,
  epsilon: number,
  bias: Float64Array | undefined,
  stored: Float64Array,
): boolean {
  if (stored.length !== norm.mean.length) return false;
  return stored.every((value, c) => {
    const scale = norm.scale(c, epsilon);
    const terms = [(bias?.[c] ?? 0) * scale, -norm.mean[c]! * scale, norm.beta?.[c] ?? 0];
    const wanted = terms[0]! + terms[1]! + terms[2]!;
    const size = Math.max(...terms.map(Math.abs));
    return Math.abs(value - wanted) <= 2 * TOLERANCE * size;
  });
}
