package com.google.gson

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.lang.reflect.Type

/** Strict where the real one is lax: a Groovy string or a NaN must never reach it. */
class Gson {
    private final boolean pretty

    Gson(boolean pretty) { this.pretty = pretty }

    String toJson(Object src) {
        def text = JsonOutput.toJson(withoutNulls(src))
        if (pretty)
            qupath.lib.scripting.QP.event('sidecar text made')
        return pretty ? JsonOutput.prettyPrint(text) : text
    }

    String toJson(Object src, Type type) {
        assert type == qupath.lib.images.servers.ImageServerBuilder.ServerBuilder
        return JsonOutput.toJson(src.description)
    }

    def <T> T fromJson(String json, Class<T> type) { return type.cast(new JsonSlurper().parseText(json)) }

    private static Object withoutNulls(Object value) {
        if (value instanceof GString)
            throw new IllegalArgumentException('Gson was given a GString: ' + value)
        if (value instanceof Map)
            return value.findAll { it.value != null }.collectEntries { [(asKey(it.key)): withoutNulls(it.value)] }
        if (value instanceof Collection)
            return value.collect { withoutNulls(it) }
        assert value == null || value instanceof String || value instanceof Number || value instanceof Boolean
        return value
    }

    private static String asKey(Object key) {
        assert key instanceof String
        return key
    }
}
