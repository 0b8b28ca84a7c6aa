export { Random } from "../random";
