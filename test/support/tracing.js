// A process that is started with --import of this file has OpenTelemetry's SDK. It prints each span as a line of JSON.
import { trace } from '@opentelemetry/api';
import { BasicTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';

const exporter = {
  export(spans, done) {
    for (const { name, kind, links, attributes, status, parentSpanContext } of spans)
      process.stdout.write(
        `${JSON.stringify({ span: { name, kind, links, attributes, status, parentSpanContext } })}\n`,
      );
    done({ code: 0 });
  },
  shutdown: async () => {},
};
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
