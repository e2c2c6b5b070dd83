"""Call events from Kafka or Redis Streams; needs the streams extra.

Imports `bundle`, `live`, `http`. Start with `consumer`.
"""
