/** Local functions of a model, written out where they are called. */
import { clone, create } from "@bufbuild/protobuf";
import { ModelFormatError } from "../errors";
import {
  type AttributeProto,
  AttributeProtoSchema,
  type FunctionProto,
  type ModelProto,
  type NodeProto,
  NodeProtoSchema,
} from "./onnx_pb";

/** Functions that call functions can grow without bound; no real model comes near this. */
const MOST_NODES = 1_000_000;
const DEEPEST_CALL = 100;

const isOnnx = (domain: string) => domain === "" || domain === "ai.onnx";

function keyOf(domain: string, name: string, overload: string): string {
  return JSON.stringify([isOnnx(domain) ? "" : domain, name, overload]);
}

/** "com.microsoft.Gelu"; ONNX's own operators without a domain. */
export function operatorName(domain: string, op: string): string {
  return isOnnx(domain) ? op : `${domain}.${op}`;
}

/** The version of ONNX's own operators that a list of imports asks for, undefined for none. */
export function onnxVersion(
  imports: readonly { domain: string; version: bigint }[],
): number | undefined {
  const row = imports.find(({ domain }) => isOnnx(domain));
  return row && Number(row.version);
}

/**
 * Gives nodes with every call of a local function replaced by the function's nodes.
 * Values inside get names of their own; attribute references take the call's values or the
 * function's defaults.
 *
 * @throws ModelFormatError when functions call each other in a circle, have bodies that do not
 * produce their outputs, or use another version of ONNX than the model.
 */
export function inlineFunctions(
  model: ModelProto,
  source: string,
): (nodes: readonly NodeProto[]) => NodeProto[] {
  if (model.functions.length === 0) return (nodes) => [...nodes];
  const inliner = new Inliner(model, source);
  return (nodes) => inliner.run(nodes);
}

class Inliner {
  private readonly functions = new Map<string, FunctionProto>();
  private readonly sizes = new Map<FunctionProto, number>();
  private readonly taken = new Set<string>();
  private out: NodeProto[] = [];
  private readonly opset: number | undefined;

  constructor(
    model: ModelProto,
    private readonly source: string,
  ) {
    this.opset = onnxVersion(model.opsetImport);
    for (const f of model.functions) this.functions.set(keyOf(f.domain, f.name, f.overload), f);
    const graph = model.graph;
    for (const value of graph?.input ?? []) this.taken.add(value.name);
    for (const tensor of graph?.initializer ?? []) this.taken.add(tensor.name);
    for (const node of graph?.node ?? []) for (const name of node.output) this.taken.add(name);
  }

  run(nodes: readonly NodeProto[]): NodeProto[] {
    if (this.sizeOf(nodes, []) > MOST_NODES)
      this.fail(`its functions write out to more than ${MOST_NODES} nodes`);
    this.out = [];
    for (const node of nodes) this.place(node);
    return this.out;
  }

  private bodyOf(node: NodeProto): FunctionProto | undefined {
    return this.functions.get(keyOf(node.domain, node.opType, node.overload));
  }

  /** How many nodes there will be, counted before any is made. `calls` are those under way. */
  private sizeOf(nodes: readonly NodeProto[], calls: readonly FunctionProto[]): number {
    let size = 0;
    for (const node of nodes) {
      const body = this.bodyOf(node);
      if (!body) {
        size++;
        continue;
      }
      let known = this.sizes.get(body);
      if (known === undefined) {
        if (calls.includes(body))
          this.fail(`function ${operatorName(node.domain, node.opType)} calls itself`);
        if (calls.length >= DEEPEST_CALL)
          this.fail(`its functions call each other more than ${DEEPEST_CALL} deep`);
        known = body.output.length + this.sizeOf(body.node, [...calls, body]);
        this.sizes.set(body, known);
      }
      size += known;
    }
    return size;
  }

  private place(node: NodeProto): void {
    const body = this.bodyOf(node);
    if (body) this.call(node, body);
    else this.out.push(node);
  }

  private call(node: NodeProto, body: FunctionProto): void {
    const name = operatorName(node.domain, node.opType);
    const version = onnxVersion(body.opsetImport);
    if (version !== undefined && version !== this.opset)
      this.fail(
        `function ${name} is written for version ${version} of the ONNX operators, the model for ` +
          `${this.opset}; export the model with one version`,
      );
    const label = node.name || node.output.find((output) => output !== "") || name;
    const names = new Map<string, string>([["", ""]]);
    body.input.forEach((formal, i) => {
      names.set(formal, node.input[i] ?? "");
    });
    // An output that is no value of the body's own is copied at the end.
    const copies: [from: string, to: string][] = [];
    const produced = new Set(body.node.flatMap((inner) => inner.output));
    body.output.forEach((formal, i) => {
      const actual = node.output[i] ?? "";
      if (actual === "") return;
      if (!names.has(formal) && produced.has(formal)) names.set(formal, actual);
      else copies.push([formal, actual]);
    });
    const rename = (value: string): string => {
      let renamed = names.get(value);
      if (renamed === undefined) {
        renamed = this.fresh(`${label}/${value}`);
        names.set(value, renamed);
      }
      return renamed;
    };
    const attributes = new Map<string, AttributeProto>();
    for (const attribute of body.attributeProto) attributes.set(attribute.name, attribute);
    for (const attribute of node.attribute) attributes.set(attribute.name, attribute);

    for (const inner of body.node) {
      this.place({
        ...inner,
        input: inner.input.map(rename),
        output: inner.output.map(rename),
        name: `${label}/${inner.name || inner.opType}`,
        attribute: inner.attribute
          .flatMap((attribute) => resolved(attribute, attributes))
          .map((attribute) => withCaptures(attribute, rename, attributes)),
      });
    }
    for (const [formal, actual] of copies) {
      const from = names.get(formal);
      if (!from) this.fail(`function ${name} does not produce its output ${formal}`);
      this.place(
        create(NodeProtoSchema, {
          opType: "Identity",
          name: `${label}/${formal}`,
          input: [from],
          output: [actual],
        }),
      );
    }
  }

  private fresh(wanted: string): string {
    let name = wanted;
    for (let i = 2; this.taken.has(name); i++) name = `${wanted}_${i}`;
    this.taken.add(name);
    return name;
  }

  private fail(message: string): never {
    throw new ModelFormatError(`${this.source}: ${message}`);
  }
}

/** A body inside of a function: what it takes from around it has the names of the call. */
function withCaptures(
  attribute: AttributeProto,
  rename: (value: string) => string,
  given: ReadonlyMap<string, AttributeProto>,
): AttributeProto {
  const graph = attribute.g;
  if (!graph) return attribute;
  const own = new Set([
    ...graph.input.map(({ name }) => name),
    ...graph.initializer.map(({ name }) => name),
    ...graph.node.flatMap(({ output }) => output),
  ]);
  const inside = (value: string) => (own.has(value) ? value : rename(value));
  return {
    ...attribute,
    g: {
      ...graph,
      output: graph.output.map((output) => ({ ...output, name: inside(output.name) })),
      node: graph.node.map((node) => ({
        ...node,
        input: node.input.map(inside),
        attribute: node.attribute
          .flatMap((each) => resolved(each, given))
          .map((each) => withCaptures(each, inside, given)),
      })),
    },
  };
}

/** An attribute with its reference replaced; absent where the call gives none. */
function resolved(
  attribute: AttributeProto,
  given: ReadonlyMap<string, AttributeProto>,
): AttributeProto[] {
  if (attribute.refAttrName === "") return [attribute];
  const value = given.get(attribute.refAttrName);
  if (!value) return [];
  const copy = clone(AttributeProtoSchema, value);
  copy.name = attribute.name;
  return [copy];
}
