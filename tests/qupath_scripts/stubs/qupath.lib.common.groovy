package qupath.lib.common

class GeneralTools {
    static String getVersion() { return qupath.lib.scripting.QP.version }

    static String stripExtension(String name) {
        def match = name =~ /(?i)^(.+?)(\.ome)?\.[a-z]{2,5}$/
        return match.matches() ? match.group(1) : name
    }
}
