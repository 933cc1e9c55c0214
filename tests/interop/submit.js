// Submits by nodemailer, all over one connection. Reads {host, port, raw (base64, one or a list), envelope, tls (none,
// starttls, implicit), ca, auth} as JSON from standard input; prints the relay's reply to each content, ends with 1
// and the reply when one was refused.
"use strict";

const nodemailer = require("nodemailer");
const job = JSON.parse(require("fs").readFileSync(0, "utf8"));

const transport = nodemailer.createTransport({
  host: job.host,
  port: job.port,
  name: "client.example.org",
  pool: true,
  maxConnections: 1,
  secure: job.tls === "implicit",
  requireTLS: job.tls === "starttls",
  ignoreTLS: (job.tls || "none") === "none",
  tls: job.ca ? { ca: job.ca } : {},
  auth: job.auth || undefined,
  authMethod: job.auth ? job.auth.method : undefined,
  connectionTimeout: 30000,
  greetingTimeout: 30000,
  socketTimeout: 60000,
});

async function submit() {
  for (const raw of [].concat(job.raw)) {
    const info = await transport.sendMail({ envelope: job.envelope, raw: Buffer.from(raw, "base64"), dsn: job.envelope.dsn });
    console.log(info.response);
  }
  transport.close();
}

submit().catch((error) => {
  console.error(error.response || error.message);
  process.exit(1);
});
