/**
 * If, Loop and Scan, written out: the nodes of both branches of an If, each of which runs only where
 * the condition is met, and the nodes of a loop's body once for each time round.
 */
import { clone, create } from "@bufbuild/protobuf";
import { ModelFormatError } from "../errors";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataType as DataType,
  type GraphProto,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
} from "./onnx_pb";

/** A node in a branch of an If runs where `condition` has this value. The outermost comes first. */
export interface Guard {
  condition: string;
  when: boolean;
}

export interface ControlContext {
  source: string;
  /** The version of ONNX's operators. */
  opset: number;
  graph: GraphProto;
  /** Replaces calls of local functions in a body. */
  inline(nodes: readonly NodeProto[]): NodeProto[];
}

export interface Flat {
  nodes: NodeProto[];
  /** Of nodes that are in branches. */
  guards: Map<NodeProto, Guard[]>;
  /** Tensors that bodies store. */
  initializers: TensorProto[];
}

const MOST_NODES = 1_000_000;
const MOST_ROUNDS = 4096;
const DEEPEST = 50;
const CONTROL = new Set(["If", "Loop", "Scan"]);
const isControl = (node: NodeProto) =>
  (node.domain === "" || node.domain === "ai.onnx") && CONTROL.has(node.opType);

/**
 * The nodes with control flow written out. What cannot be is left as it is, with the reason in the
 * attribute `refused`.
 *
 * @throws ModelFormatError when a body does not fit its node
 */
export function flattenControl(nodes: readonly NodeProto[], context: ControlContext): Flat {
  if (!nodes.some(isControl)) return { nodes: [...nodes], guards: new Map(), initializers: [] };
  return new Flattener(nodes, context).run(nodes);
}

type Resolve = (name: string) => string;
/** Why a loop cannot be written out. */
class Refusal extends Error {}

class Flattener {
  private readonly flat: Flat = { nodes: [], guards: new Map(), initializers: [] };
  private readonly taken = new Set<string>();
  private readonly producers = new Map<string, NodeProto>();
  private readonly stored = new Map<string, TensorProto>();
  /** Tensors and constants of a body are stored once, however often it is written out. */
  private readonly shared = new Map<GraphProto, Map<string, string>>();
  private readonly inlined = new Map<GraphProto, NodeProto[]>();

  constructor(
    nodes: readonly NodeProto[],
    private readonly context: ControlContext,
  ) {
    const { graph } = context;
    for (const { name } of graph.input) this.taken.add(name);
    for (const tensor of graph.initializer) {
      this.taken.add(tensor.name);
      this.stored.set(tensor.name, tensor);
    }
    for (const { values } of graph.sparseInitializer) if (values) this.taken.add(values.name);
    for (const node of nodes) for (const name of node.output) this.taken.add(name);
  }

  run(nodes: readonly NodeProto[]): Flat {
    for (const node of nodes) this.place(node, [], 0);
    return this.flat;
  }

  private emit(node: NodeProto, guards: Guard[]): void {
    if (this.flat.nodes.length >= MOST_NODES)
      this.fail(`its loops write out to more than ${MOST_NODES} nodes`);
    this.flat.nodes.push(node);
    if (guards.length > 0) this.flat.guards.set(node, guards);
    for (const name of node.output) if (name !== "") this.producers.set(name, node);
  }

  /** A node whose inputs are resolved and whose bodies hold resolved names. */
  private place(node: NodeProto, guards: Guard[], depth: number, resolve: Resolve = (n) => n) {
    if (!isControl(node)) return this.emit(node, guards);
    if (depth >= DEEPEST) this.fail(`its control flow is more than ${DEEPEST} deep`);
    const before = this.flat.nodes.length;
    try {
      if (node.opType === "If") this.branch(node, guards, depth, resolve);
      else if (node.opType === "Loop") this.loop(node, guards, depth, resolve);
      else this.scan(node, guards, depth, resolve);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      for (const dropped of this.flat.nodes.splice(before)) this.flat.guards.delete(dropped);
      const refused = create(AttributeProtoSchema, {
        name: "refused",
        type: AttributeType.STRING,
        s: new TextEncoder().encode(error.message),
      });
      this.emit({ ...node, attribute: [refused] }, guards);
    }
  }

  private branch(node: NodeProto, guards: Guard[], depth: number, resolve: Resolve): void {
    const condition = node.input[0] ?? "";
    const results: string[] = [];
    for (const [attribute, when] of [
      ["then_branch", true],
      ["else_branch", false],
    ] as const) {
      const graph = this.graphOf(node, attribute);
      if (graph.output.length < node.output.length)
        this.fail(`${attribute} of node ${labelOf(node)} has too few outputs`);
      const inside = [...guards, { condition, when }];
      const label = `${labelOf(node)}/${when ? "then" : "else"}`;
      const outputs = this.body(graph, label, new Map(), inside, depth, resolve);
      results.push(...outputs.slice(0, node.output.length));
    }
    this.emit({ ...node, input: [condition, ...results], attribute: [] }, guards);
  }

  private loop(node: NodeProto, guards: Guard[], depth: number, resolve: Resolve): void {
    const body = this.graphOf(node, "body");
    const [most = "", start = "", ...initial] = node.input;
    const rounds = most === "" ? undefined : this.numberOf(most);
    if (rounds === undefined)
      throw new Refusal(
        most === ""
          ? "it has no trip count; only loops of a constant number of rounds are taken"
          : `its trip count (${most}) is no constant of the file`,
      );
    const begins = start === "" ? 1 : this.numberOf(start);
    if (begins === undefined)
      throw new Refusal(`its condition (${start}) is no constant of the file`);
    const times = begins === 0 ? 0 : Math.max(0, rounds);
    this.checkRounds(times);
    const carried = initial.length;
    if (body.input.length !== carried + 2 || body.output.length <= carried)
      this.fail(`the body of node ${labelOf(node)} does not fit its ${carried} carried values`);
    let state = initial;
    const rows: string[][] = body.output.slice(carried + 1).map(() => []);
    for (let round = 0; round < times; round++) {
      const actual = new Map<string, string>();
      const counter = this.constant(`${labelOf(node)}/round`, [], [BigInt(round)], guards);
      actual.set(body.input[0]!.name, counter);
      const going = this.constant(`${labelOf(node)}/going`, [], [1n], guards, DataType.BOOL);
      actual.set(body.input[1]!.name, going);
      for (let i = 0; i < carried; i++) actual.set(body.input[i + 2]!.name, state[i]!);
      const label = `${labelOf(node)}/${round}`;
      const outputs = this.body(body, label, actual, guards, depth, resolve);
      if (this.numberOf(outputs[0]!) !== 1)
        throw new Refusal("its condition changes, or depends on what the body computes");
      state = outputs.slice(1, carried + 1);
      outputs.slice(carried + 1).forEach((name, i) => {
        rows[i]!.push(name);
      });
    }
    state.forEach((name, i) => {
      this.copy(name, node.output[i] ?? "", guards);
    });
    rows.forEach((names, i) => {
      this.stack(names, node.output[carried + i] ?? "", 0, node, guards);
    });
  }

  private scan(node: NodeProto, guards: Guard[], depth: number, resolve: Resolve): void {
    const body = this.graphOf(node, "body");
    if (this.context.opset < 9) throw new Refusal("its form before opset 9 is not supported");
    const scanned = Number(attributeOf(node, "num_scan_inputs")?.i ?? 0n);
    const carried = node.input.length - scanned;
    if (carried < 0 || body.input.length !== node.input.length || body.output.length < carried)
      this.fail(`the body of node ${labelOf(node)} does not fit its inputs`);
    const lists = (name: string) => (attributeOf(node, name)?.ints ?? []).map(Number);
    const axes = lists("scan_input_axes");
    const backwards = lists("scan_input_directions");
    const inputs = node.input.slice(carried).map((name, i) => {
      const shape = this.shapeOf(name);
      let axis = axes[i] ?? 0;
      if (shape && axis < 0) axis += shape.length;
      const length = shape?.[axis];
      if (length === undefined)
        throw new Refusal(
          `the length of its input ${name} along axis ${axis} is not fixed in the file; export the ` +
            "model with a fixed length",
        );
      return { name, axis, length, backward: backwards[i] === 1 };
    });
    const times = inputs[0]?.length ?? 0;
    if (inputs.some(({ length }) => length !== times))
      this.fail(`the inputs of node ${labelOf(node)} have different lengths`);
    this.checkRounds(times);
    let state = node.input.slice(0, carried);
    const rows: string[][] = body.output.slice(carried).map(() => []);
    for (let round = 0; round < times; round++) {
      const actual = new Map<string, string>();
      for (let i = 0; i < carried; i++) actual.set(body.input[i]!.name, state[i]!);
      inputs.forEach(({ name, axis, backward }, i) => {
        const at = BigInt(backward ? times - 1 - round : round);
        const index = this.constant(`${labelOf(node)}/at`, [], [at], guards);
        const row = this.fresh(`${labelOf(node)}/${round}/${body.input[carried + i]!.name}`);
        this.emit(
          made("Gather", [name, index], row, {
            axis: create(AttributeProtoSchema, {
              name: "axis",
              type: AttributeType.INT,
              i: BigInt(axis),
            }),
          }),
          guards,
        );
        actual.set(body.input[carried + i]!.name, row);
      });
      const label = `${labelOf(node)}/${round}`;
      const outputs = this.body(body, label, actual, guards, depth, resolve);
      state = outputs.slice(0, carried);
      outputs.slice(carried).forEach((name, i) => {
        rows[i]!.push(name);
      });
    }
    state.forEach((name, i) => {
      this.copy(name, node.output[i] ?? "", guards);
    });
    const outAxes = lists("scan_output_axes");
    const outBackwards = lists("scan_output_directions");
    rows.forEach((names, i) => {
      const ordered = outBackwards[i] === 1 ? names.reverse() : names;
      this.stack(ordered, node.output[carried + i] ?? "", outAxes[i] ?? 0, node, guards);
    });
  }

  /** Writes a body out; gives the names of its outputs. `actual` are those of its inputs. */
  private body(
    graph: GraphProto,
    label: string,
    actual: ReadonlyMap<string, string>,
    guards: Guard[],
    depth: number,
    outer: Resolve,
  ): string[] {
    let nodes = this.inlined.get(graph);
    let shared = this.shared.get(graph);
    if (!nodes || !shared) {
      nodes = this.context.inline(graph.node);
      shared = new Map();
      this.inlined.set(graph, nodes);
      this.shared.set(graph, shared);
      for (const tensor of graph.initializer) {
        const name = this.fresh(tensor.name);
        const own = clone(TensorProtoSchema, tensor);
        own.name = name;
        shared.set(tensor.name, name);
        this.stored.set(name, own);
        this.flat.initializers.push(own);
      }
      for (const node of nodes.filter(isConstant)) {
        const name = this.fresh(node.output[0]!);
        shared.set(node.output[0]!, name);
        // Constants run whatever the condition says.
        this.constants.push({ ...node, output: [name] });
      }
    }
    for (const constant of this.constants.splice(0)) this.emit(constant, []);
    const names = new Map([...shared, ...actual]);
    for (const node of nodes)
      if (!isConstant(node))
        for (const name of node.output)
          if (name !== "") names.set(name, this.fresh(`${label}/${name}`));
    const resolve = (name: string) => (name === "" ? "" : (names.get(name) ?? outer(name)));
    for (const node of nodes) {
      if (isConstant(node)) continue;
      const inside: NodeProto = {
        ...node,
        name: `${label}/${node.name || node.opType}`,
        input: node.input.map(resolve),
        output: node.output.map(resolve),
      };
      this.place(inside, guards, depth + 1, resolve);
    }
    return graph.output.map(({ name }) => resolve(name));
  }

  private readonly constants: NodeProto[] = [];

  private copy(from: string, to: string, guards: Guard[]): void {
    if (to !== "") this.emit(made("Identity", [from], to), guards);
  }

  /** Joins values along a new axis. */
  private stack(names: string[], to: string, axis: number, node: NodeProto, guards: Guard[]): void {
    if (to === "") return;
    if (names.length === 0)
      throw new Refusal("it runs no round, so that the shape of its output is not known");
    const ints = (values: number[]) =>
      create(AttributeProtoSchema, {
        name: "axes",
        type: AttributeType.INTS,
        ints: values.map(BigInt),
      });
    const columns = names.map((name, i) => {
      const column = this.fresh(`${labelOf(node)}/${i}/${to}`);
      if (this.context.opset < 13)
        this.emit(made("Unsqueeze", [name], column, { axes: ints([axis]) }), guards);
      else {
        const axes = this.constant(`${labelOf(node)}/axis`, [1], [BigInt(axis)], guards);
        this.emit(made("Unsqueeze", [name, axes], column), guards);
      }
      return column;
    });
    const along = create(AttributeProtoSchema, {
      name: "axis",
      type: AttributeType.INT,
      i: BigInt(axis),
    });
    this.emit(made("Concat", columns, to, { axis: along }), guards);
  }

  private constant(
    wanted: string,
    dims: number[],
    values: bigint[],
    guards: Guard[],
    dataType = DataType.INT64,
  ): string {
    const name = this.fresh(wanted);
    const data =
      dataType === DataType.BOOL ? { int32Data: values.map(Number) } : { int64Data: values };
    const t = create(TensorProtoSchema, { name, dims: dims.map(BigInt), dataType, ...data });
    const value = create(AttributeProtoSchema, { name: "value", type: AttributeType.TENSOR, t });
    this.emit(made("Constant", [], name, { value }), guards);
    return name;
  }

  /** A single number that the file stores, perhaps moved or converted. */
  private numberOf(name: string): number | undefined {
    for (let step = 0, at = name; step < 100; step++) {
      const tensor = this.stored.get(at);
      if (tensor) return scalarOf(tensor);
      const node = this.producers.get(at);
      if (!node) return undefined;
      if (node.opType === "Constant") {
        const value = attributeOf(node, "value")?.t;
        if (value) return scalarOf(value);
        const number = attributeOf(node, "value_int")?.i ?? attributeOf(node, "value_float")?.f;
        return number === undefined ? undefined : Number(number);
      }
      if (!["Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape"].includes(node.opType))
        return undefined;
      at = node.input[0]!;
    }
    return undefined;
  }

  private shapeOf(name: string): (number | undefined)[] | undefined {
    const tensor = this.stored.get(name);
    if (tensor) return tensor.dims.map(Number);
    const { graph } = this.context;
    const info = [...graph.input, ...graph.valueInfo].find((value) => value.name === name);
    const type = info?.type?.value;
    if (type?.case !== "tensorType") return undefined;
    return type.value.shape?.dim.map(({ value }) =>
      value.case === "dimValue" && value.value > 0n ? Number(value.value) : undefined,
    );
  }

  private checkRounds(times: number): void {
    if (times > MOST_ROUNDS)
      throw new Refusal(`it runs ${times} rounds; at most ${MOST_ROUNDS} are written out`);
  }

  private graphOf(node: NodeProto, name: string): GraphProto {
    const graph = attributeOf(node, name)?.g;
    if (!graph) this.fail(`node ${labelOf(node)} (${node.opType}) has no ${name}`);
    return graph;
  }

  private fresh(wanted: string): string {
    let name = wanted;
    for (let i = 2; this.taken.has(name); i++) name = `${wanted}_${i}`;
    this.taken.add(name);
    return name;
  }

  private fail(message: string): never {
    throw new ModelFormatError(`${this.context.source}: ${message}`);
  }
}

function made(
  opType: string,
  input: string[],
  output: string,
  attributes: Record<string, AttributeProto> = {},
): NodeProto {
  return create(NodeProtoSchema, {
    opType,
    name: output,
    input,
    output: [output],
    attribute: Object.values(attributes),
  });
}

const isConstant = (node: NodeProto) =>
  node.opType === "Constant" && (node.domain === "" || node.domain === "ai.onnx");

const attributeOf = (node: NodeProto, name: string) =>
  node.attribute.find((attribute) => attribute.name === name);

const labelOf = (node: NodeProto) =>
  node.name || node.output.find((output) => output !== "") || node.opType;

/** The only element of a tensor of integers or booleans. */
function scalarOf(tensor: TensorProto): number | undefined {
  if (tensor.dims.some((length) => length !== 1n)) return undefined;
  const { rawData, dataType } = tensor;
  const typed = tensor.int64Data[0] ?? tensor.int32Data[0];
  if (typed !== undefined) return Number(typed);
  if (!rawData) return undefined;
  const view = new DataView(rawData.buffer, rawData.byteOffset, rawData.byteLength);
  if (dataType === DataType.INT64 && view.byteLength >= 8) return Number(view.getBigInt64(0, true));
  if (dataType === DataType.INT32 && view.byteLength >= 4) return view.getInt32(0, true);
  if (dataType === DataType.BOOL && view.byteLength >= 1) return view.getUint8(0);
  return undefined;
}
