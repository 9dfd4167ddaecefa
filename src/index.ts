/** The API of the package for programs. Everything else in the package may change at any time. */
export { connect } from './database/connect.ts';
export { openPool } from './database/pool.ts';
export { createInboundHandler } from './inbound/handler.ts';
export { createReceiver } from './inbound/receive.ts';
export { MigrationError, migrate, status } from './install/migrate.ts';
export { createLog } from './log.ts';
export { SendError, send } from './operations/send.ts';
export { parseSecret, signatureHeaders, verifySignature } from './secrets/sign.ts';
