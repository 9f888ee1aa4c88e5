"""Traces across processes: one from an ask to its reply, through the coordinator, the agent and whomever it asks.

    tracer       the contract, and the one that only passes on what came in
    recording    spans by the OpenTelemetry SDK, imported only where traces are wanted
    otlp         a span in OTLP's JSON
    exporting    the sending, off every message's path

A W3C `traceparent` travels in every envelope and ledger row, whether or not anybody records: so an agent that does
not trace does not tear a trace in two.
"""
