"""Call events from Kafka or Redis Streams; needs the extras serve and streams.

Imports `bundle`, `live`, `http`. Start with `consumer`.
"""
